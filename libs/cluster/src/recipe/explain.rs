//! Where in a recipe an error is.

/// What is wrong and in which line of which section, in one line: a wrong type's own message names no field.
pub fn explain(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', "; ");
    let Some(begin) = error.span().map(|span| span.start).filter(|begin| text.is_char_boundary(*begin)) else {
        return message;
    };
    let begin_of_line = text[..begin].rfind('\n').map_or(0, |end| end + 1);
    let line = text[begin_of_line..].lines().next().unwrap_or_default().trim();
    let is_section = |line: &&str| line.starts_with('[');
    match text[..begin_of_line].lines().map(str::trim).rfind(is_section) {
        _ if line.is_empty() => message,
        _ if is_section(&line) => format!("{message} (in {line})"),
        Some(section) => format!("{message} (in {section}: {line})"),
        None => format!("{message} (in {line})"),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sections {
        #[expect(dead_code, reason = "read by nobody; it must parse")]
        data: Data,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Data {
        #[expect(dead_code, reason = "read by nobody; it must parse")]
        crop: u32,
    }

    fn explained(text: &str) -> String {
        explain(text, &toml::from_str::<Sections>(text).expect_err("must be refused"))
    }

    #[test]
    fn a_wrong_type_is_told_with_section_and_line() {
        let text = "name = 'x'\n\n[data]\n  crop = 'big'\n";
        assert_eq!(explained(text), "invalid type: string \"big\", expected u32 (in [data]: crop = 'big')");
    }

    #[test]
    fn what_is_missing_is_told_with_its_section() {
        assert_eq!(explained("[data]\n"), "missing field `crop` (in [data])");
    }

    #[test]
    fn an_error_without_a_place_is_told_as_it_is() {
        let error = toml::Table::new().try_into::<Sections>().expect_err("must be refused");
        assert_eq!(explain("name = 'x'", &error), "missing field `data`");
    }
}
