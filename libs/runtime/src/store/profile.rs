//! Keys and settings out of the AWS tools' files, `~/.aws/credentials` and `~/.aws/config`, which object_store does not read.
//!
//! Keys that stand in the files and nothing else: what has to be asked for first (`sso_…`, `role_arn`,
//! `credential_process`) is refused, with what to do instead.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::client::{Settings, value};

/// What a profile may say, and the variable that says the same.
const KNOWN: [(&str, &str); 7] = [
    ("aws_access_key_id", "AWS_ACCESS_KEY_ID"),
    ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    ("aws_session_token", "AWS_SESSION_TOKEN"),
    ("region", "AWS_REGION"),
    ("endpoint_url", "AWS_ENDPOINT"),
    ("web_identity_token_file", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    ("role_arn", "AWS_ROLE_ARN"),
];

/// Settings that the profile `AWS_PROFILE` names, or `default`'s where there is one and the environment holds no key.
pub(super) fn read(environment: &[(String, String)]) -> Result<Settings, String> {
    let asked = value(environment, "AWS_PROFILE");
    if asked.is_none() && value(environment, "AWS_ACCESS_KEY_ID").is_some() {
        return Ok(Settings::new());
    }
    let name = asked.unwrap_or("default");
    let files = [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
        .map(|(variable, usual)| file(environment, variable, usual));
    let mut found = BTreeMap::new();
    let mut is_there = false;
    for path in files.iter().flatten() {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            // Not ours to read: an error only where it was asked for.
            Err(_) if asked.is_none() => continue,
            Err(error) => return Err(format!("can't read {}: {error}", path.display())),
        };
        if let Some(section) = section(&text, name) {
            is_there = true;
            found.extend(section);
        }
    }
    if asked.is_some() && !is_there {
        let looked: Vec<_> = files.iter().flatten().map(|path| path.display().to_string()).collect();
        return Err(format!("there is no profile \"{name}\" in {}", looked.join(" and ")));
    }
    let key = if found.contains_key("role_arn") { "web_identity_token_file" } else { "aws_access_key_id" };
    if asked.is_some() && !found.contains_key(key) {
        return Err(format!(
            "the profile \"{name}\" holds no key of its own, and logging in is not done here: put its keys into the \
             environment by `eval $(aws configure export-credentials --profile {name} --format env)`"
        ));
    }
    let known = KNOWN.iter().filter_map(|(key, variable)| Some(((*variable).to_owned(), found.remove(*key)?)));
    Ok(known.collect())
}

fn file(environment: &[(String, String)], variable: &str, usual: &str) -> Option<PathBuf> {
    let named = value(environment, variable).map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(value(environment, "HOME")?).join(".aws").join(usual)))
}

/// The pairs of `[name]` or `[profile name]`; `None` where there is no such section.
fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found = None;
    let mut inside = false;
    for line in text.lines() {
        if let Some(header) = line.trim().strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let header = header.0.trim();
            inside = header.strip_prefix("profile ").unwrap_or(header).trim() == name;
            if inside {
                found.get_or_insert_with(BTreeMap::new);
            }
        } else if inside
            // A value further in belongs to the key above it, and that is none of ours.
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.get_or_insert_with(BTreeMap::new).insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id=D\naws_secret_access_key=DS\n\n[lab]\n\
                               aws_access_key_id = L\naws_secret_access_key = a=b\n[sso]\nsso_session = x\n";
    const CONFIG: &str =
        "[profile lab]\nregion = eu-west-1\ns3 =\n  addressing_style = path\nendpoint_url = http://lab:9000\n";

    fn read_with(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(home.path().join(".aws")).expect("creates");
        std::fs::write(home.path().join(".aws/credentials"), CREDENTIALS).expect("writes");
        std::fs::write(home.path().join(".aws/config"), CONFIG).expect("writes");
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read(&variables.chain([("HOME".to_owned(), home.path().display().to_string())]).collect::<Settings>())
    }

    #[test]
    fn a_profile_is_put_together_from_both_files() {
        let settings = read_with(&[("AWS_PROFILE", "lab")]).expect("is there");
        let expected = [
            ("AWS_ACCESS_KEY_ID", "L"),
            ("AWS_SECRET_ACCESS_KEY", "a=b"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ENDPOINT", "http://lab:9000"),
        ];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_default_profile_is_for_environments_without_a_key() {
        assert_eq!(value(&read_with(&[]).expect("is there"), "AWS_ACCESS_KEY_ID"), Some("D"));
        assert_eq!(read_with(&[("AWS_ACCESS_KEY_ID", "E")]).expect("not looked at"), []);
    }

    #[test]
    fn what_must_be_logged_in_for_is_refused_with_what_to_do() {
        let text = read_with(&[("AWS_PROFILE", "sso")]).expect_err("no key");
        assert!(text.contains("\"sso\"") && text.contains("export-credentials"), "{text}");
    }
}
