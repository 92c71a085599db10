//! What YAML makes of things, and of what people take for YAML.

use serde::Deserialize;
use service_runtime::{Renamed, given, keys, parse, parse_renamed};
use std::time::Duration;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    a: Section,
    b: Section,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Section {
    number: u32,
    signed: i64,
    ratio: f64,
    flag: bool,
    password: Option<String>,
    name: String,
    names: Vec<String>,
    #[serde(with = "humantime_serde")]
    time: Duration,
    inner: Inner,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Inner {
    number: u32,
}

fn read(yaml: &str) -> Result<Settings, String> {
    parse("test.yml", yaml, []).map_err(|error| error.to_string())
}

fn a(value: &str) -> Section {
    read(&format!("a: {{{value}}}")).unwrap_or_else(|error| panic!("{value}: {error}")).a
}

fn wrong(yaml: &str) -> String {
    let error = read(yaml).map(|settings| format!("accepted: {settings:?}")).unwrap_err();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn words_are_read_by_the_keys_that_take_them() {
    for (value, number) in [("12", 12), ("0x1F", 31), ("0o17", 15), ("1_000", 1_000), ("+7", 7), ("0", 0)] {
        assert_eq!(a(&format!("number: {value}")).number, number, "{value}");
    }
    assert_eq!((a("signed: -1_0").signed, a("ratio: 1e2").ratio, a("ratio: 3").ratio), (-10, 100.0, 3.0));
    for (value, flag) in [("yes", true), ("On", true), ("TRUE", true), ("no", false), ("OFF", false), ("false", false)]
    {
        assert_eq!(a(&format!("flag: {value}")).flag, flag, "{value}");
    }
    // Texts are what they look like, whatever else they could be.
    for text in ["12345", "1e5", "0755", "1_000", "no", "yes", "1.10", "0x1F", "12:30", "2026-01-01", "+5"] {
        assert_eq!(a(&format!("password: {text}")).password.as_deref(), Some(text));
        assert_eq!(a(&format!("name: \"{text}\"")).name, text);
        assert_eq!(a(&format!("names: [{text}, b]")).names, [text, "b"]);
    }
    assert_eq!(a("name: !!str 12").name, "12");
    assert_eq!(a("number: !!int \"12\"").number, 12);
    assert_eq!(a("password: ~").password, None);
    assert_eq!(a("password: '~'").password.as_deref(), Some("~"));
    // A section without keys, and a file without sections.
    assert_eq!(read("a:\n").unwrap().a.number, 0);
    assert_eq!(read("---\n# nothing\n").unwrap().a.number, 0);
}

#[test]
fn what_cannot_be_read_is_named() {
    for (yaml, said) in [
        ("a: {number: 010}", "a.number: ambiguous value \"010\""),
        ("a: {ratio: 010}", "a.ratio: ambiguous value \"010\""),
        ("a: {ratio: -010.5}", "a.ratio: ambiguous value"),
        ("a: {number: 0755}", "a.number: ambiguous value"),
        ("a: {number: 1__}", "a.number: invalid value"),
        ("a: {number: 1e3}", "a.number: invalid value \"1e3\", expected a whole number"),
        ("a: {number: 60.0}", "a.number: invalid value"),
        ("a: {number: ~}", "a.number: has no value"),
        ("a:\n  number:\n", "a.number: has no value"),
        ("a: {name: null}", "a.name: has no value"),
        ("a: {number: '8'}", "a.number: invalid value \"8\", expected a whole number, 0 to 4294967295, without quotes"),
        ("a: {ratio: .nan}", "a.ratio: invalid value"),
        ("a: {ratio: .inf}", "a.ratio: invalid value"),
        ("a: {flag: y}", "a.flag: invalid value \"y\", expected true or false"),
        ("a: {flag: 'yes'}", "a.flag: invalid value \"yes\", expected true or false, without quotes"),
        ("a: {time: 5}", "a.time: "),
        ("a: {time: 1:30}", "a.time: "),
        ("a: {number: 1, name: x, number: 2}", "a.number: is given twice, in lines 1 and 1"),
        ("a:\n  number: 1\nb: {}\na:\n  number: 2\n", "a: is given twice, in lines 1 and 4"),
        ("a:\n\tnumber: 1\n", "test.yml: line 2, number: "),
        ("a:\n  number: [1\nb: 2\n", "test.yml: line "),
        ("a: {number: *unknown}", "test.yml: line 1"),
        ("a: &x {names: [*x]}", "is an alias of what it stands in"),
        ("a: {<<: 5}", "a.<<: must be a section"),
        ("a: {number: !secret 5}", "a.number: has the tag !secret"),
        ("a: {[1, 2]: 5}", "a key that is no word"),
        ("a: {}\n---\nb: {}\n", "test.yml: holds several documents"),
        ("- a\n- b\n", "test.yml: must hold sections"),
        ("just words", "test.yml: must hold sections"),
        ("x-common: {number: 1}", "unknown key x-common"),
    ] {
        let error = wrong(yaml);
        assert!(error.contains(said), "{yaml:?}: {error}");
    }
    let tab = wrong("a:\n\tnumber: 1\n");
    assert!(tab.contains("begins with a tab"), "{tab}");
    assert!(wrong(&format!("a: {}5{}", "[".repeat(40), "]".repeat(40))).contains("holds too much"));
    assert!(wrong(&format!("a: {}", "[".repeat(10_000))).contains("recursion limit"));
    let mut laughs = "a:\n  names: &n0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*n{}", level - 1);
        laughs += &format!("  l{level}: &n{level} [{}]\n", [before.as_str(); 10].join(", "));
    }
    assert!(wrong(&laughs).contains("holds too much"));
}

#[test]
fn anchors_merges_and_foreign_ends_of_lines_are_understood() {
    let yaml = "\u{feff}a: &common\r\n  number: 5\r\n  flag: yes\r\n  inner: &inner {number: 1}\r\n\
                b:\r\n  <<: *common\r\n  flag: no\r\n  inner: *inner\r\n";
    let settings = read(yaml).unwrap();
    assert_eq!((settings.b.number, settings.b.flag, settings.b.inner.number), (5, false, 1));
    let two = read("a: {<<: [{number: 1}, {number: 2, signed: 3}]}").unwrap().a;
    assert_eq!((two.number, two.signed), (1, 3));
}

#[test]
fn the_environment_is_read_alike() {
    let with = |value: &str| {
        let variable = ("INTERACTION__A__FLAG".to_owned(), value.to_owned());
        parse::<Settings>("test.yml", "", [variable]).map(|settings| settings.a.flag).map_err(|error| error.to_string())
    };
    assert_eq!((with("on"), with("No")), (Ok(true), Ok(false)));
    assert!(with("maybe").unwrap_err().starts_with("a.flag (from INTERACTION__A__FLAG): invalid value"));
}

#[test]
fn keys_are_asked_of_the_sections() {
    let found = keys::<Settings>();
    assert_eq!(found.len(), 18, "{found:?}");
    assert!(found.contains(&"b.inner.number".to_owned()) && found.contains(&"a.time".to_owned()), "{found:?}");
    let given = given("test.yml", "a: {number: 010, inner: {number: '2'}}\nb: {}\nc: ~\n").unwrap();
    assert_eq!(given, [("a.inner.number", "2"), ("a.number", "010")].map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[test]
fn other_names_of_keys_lead_to_them() {
    const NAMES: &[Renamed] =
        &[Renamed { from: "old.time", to: "a.time" }, Renamed { from: "a.old", to: "b.inner.number" }];
    let read = |yaml: &str, environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse_renamed::<Settings>("test.yml", yaml, environment, NAMES).map_err(|error| error.to_string())
    };
    let settings = read("old: {time: 5m}\na: {old: 7}\n", &[]).unwrap();
    assert_eq!((settings.a.time.as_secs(), settings.b.inner.number), (300, 7));
    // Both, if they say the same; the environment goes before the file, whichever name it uses.
    assert_eq!(read("old: {time: 5m}\na: {time: 300s}\n", &[]).unwrap().a.time.as_secs(), 300);
    assert_eq!(read("old: {time: 5m}", &[("INTERACTION__A__TIME", "1s")]).unwrap().a.time.as_secs(), 1);
    assert_eq!(read("a: {time: 5m}", &[("INTERACTION__OLD__TIME", "1s")]).unwrap().a.time.as_secs(), 1);
    let both = read("old: {time: 5m}\na: {time: 1h}\n", &[]).unwrap_err();
    assert_eq!(both, "old.time: says 5m, and a.time says 1h: leave one of them out");
    assert!(read("old: {time: 5m, more: 1}", &[]).unwrap_err().contains("unknown key old"));
    assert!(read("old: {time: soon}", &[]).unwrap_err().starts_with("a.time: "));
}
