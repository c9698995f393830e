use super::*;

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("create");
        std::fs::write(path, b"x").expect("write");
    }
    folder
}

fn name(text: &str) -> Label {
    Label::Name(text.to_owned())
}

fn pairs(listing: &Listing) -> Vec<(&str, Label)> {
    listing.entries.iter().map(|entry| (entry.name.as_str(), entry.label.clone())).collect()
}

#[test]
fn a_folder_per_class_is_listed_in_order() {
    let folder =
        folder(&["run/b.mp4", "run/a.MP4", "run/more/c.webm", "jump/x.avi", "jump/notes.txt", "run/.hidden.mp4"]);
    let listing = read(folder.path(), None, false).expect("lists");
    assert_eq!(
        pairs(&listing),
        [
            ("jump/x.avi", name("jump")),
            ("run/a.MP4", name("run")),
            ("run/b.mp4", name("run")),
            ("run/more/c.webm", name("run"))
        ]
    );
    assert_eq!(listing.other_files, 1);
    assert_eq!(classes(&[&listing], None).expect("fit"), ["jump", "run"]);
}

#[test]
fn folders_without_classes_or_videos_are_refused() {
    let flat = folder(&["a.mp4"]);
    assert!(read(flat.path(), None, false).expect_err("flat").to_string().contains("has no sub-folders"));
    let empty = folder(&["run/readme.txt"]);
    assert!(read(empty.path(), None, false).expect_err("empty").to_string().ends_with("nothing to pack"));
    let missing = read(Path::new("/no/such/folder"), None, false).expect_err("missing").to_string();
    assert!(missing.starts_with("can't read /no/such/folder: No such file"), "{missing}");
}

fn list(folder: &tempfile::TempDir, text: &str) -> Result<Listing, ListError> {
    let path = folder.path().join("list.csv");
    std::fs::write(&path, text).expect("write");
    read(&path, None, false)
}

#[test]
fn paths_may_hold_spaces_and_labels_too() {
    let folder = folder(&["a b.mp4", "c.mp4", "d,e.mp4"]);
    let spaced = list(&folder, "a b.mp4 3\nc.mp4 0\n").expect("lists");
    assert_eq!(pairs(&spaced), [("a b.mp4", Label::Number(3)), ("c.mp4", Label::Number(0))]);
    let commas = list(&folder, "path,label\n# comment\n\na b.mp4,riding a bike\n\"d,e.mp4\",jump\n").expect("lists");
    assert_eq!(pairs(&commas), [("a b.mp4", name("riding a bike")), ("d,e.mp4", name("jump"))]);
    let tabs = list(&folder, "d,e.mp4\tbig jump\n").expect("lists");
    assert_eq!(pairs(&tabs), [("d,e.mp4", name("big jump"))]);
    let quoted = list(&folder, "c.mp4 \"riding a bike\"\n\"a b.mp4\" jump\n").expect("lists");
    assert_eq!(pairs(&quoted), [("c.mp4", name("riding a bike")), ("a b.mp4", name("jump"))]);
}

#[test]
fn a_missing_file_is_named_with_its_line() {
    let folder = folder(&["a.mp4"]);
    let text = list(&folder, "a.mp4 0\n\nno.mp4 1\nneither.mp4 1\n").expect_err("missing").to_string();
    assert!(text.contains("list.csv, line 3: there is no file") && text.contains("no.mp4"), "{text}");
    assert!(text.ends_with("(and 1 more such lines); --keep-going passes them over"), "{text}");
    let listing = read(&folder.path().join("list.csv"), None, true).expect("keeps going");
    assert_eq!((listing.entries.len(), listing.passed_over.len()), (1, 2));
}

#[test]
fn mistakes_in_a_line_are_told() {
    let folder = folder(&["a.mp4"]);
    let refusal = |text: &str| list(&folder, text).expect_err("must be refused").to_string();
    assert!(refusal("a.mp4\n").contains("line 1: there is no label behind the path"));
    assert!(refusal("a.mp4 -1\n").contains("line 1: label -1 is not 0, 1, 2"));
    assert!(refusal("a.mp4 4000000000\n").contains("is above 99999"));
    assert!(
        refusal("a.mp4 0\na.mp4 1\n").contains("line 2: ")
            && refusal("a.mp4 0\na.mp4 1\n").contains("in line 1 already")
    );
    assert!(refusal("\n# nothing\n").ends_with("nothing to pack"));
}

#[test]
fn labels_and_class_names_must_fit() {
    let folder = folder(&["a.mp4", "b.mp4"]);
    let numbers = list(&folder, "a.mp4 0\nb.mp4 2\n").expect("lists");
    assert_eq!(classes(&[&numbers], None).expect("fit"), ["0", "1", "2"]);
    let two = Some(vec!["x".to_owned(), "y".to_owned()]);
    let error = classes(&[&numbers], two).expect_err("too few").to_string();
    assert_eq!(error, "label 2 occurs, but there are only 2 class names");
    let mixed = list(&folder, "a.mp4 0\nb.mp4 jump\n").expect("lists");
    assert!(classes(&[&mixed], None).expect_err("mixed").to_string().contains("use one of the two"));
    let names = list(&folder, "a.mp4 run\n").expect("lists");
    let val = list(&folder, "b.mp4 swim\n").expect("lists");
    let error = classes(&[&names, &val], None).expect_err("unknown").to_string();
    assert_eq!(error, "class \"swim\" occurs, but is not among run");
}
