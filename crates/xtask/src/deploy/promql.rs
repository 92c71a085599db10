//! The series that a PromQL expression names. Its syntax is promtool's work.

use std::collections::BTreeSet;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expression {
    pub(crate) series: Vec<Series>,
    /// Labels of `by (...)`.
    pub(crate) groupings: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Label and what it is compared with.
    pub(crate) matchers: Vec<(String, String)>,
}

const GROUPINGS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
const KEYWORDS: &[&str] = &["and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"];

pub(crate) fn parse(text: &str) -> Expression {
    let mut found = Expression::default();
    let mut tokens = tokens(text).into_iter().peekable();
    while let Some(token) = tokens.next() {
        let Token::Name(name) = token else {
            // The range of a range vector holds a duration.
            if token == Token::Sign('[') {
                while tokens.next().is_some_and(|token| token != Token::Sign(']')) {}
            }
            continue;
        };
        if GROUPINGS.contains(&name) {
            if tokens.next_if_eq(&Token::Sign('(')).is_some() {
                while let Some(token) = tokens.next().filter(|token| *token != Token::Sign(')')) {
                    if let (Token::Name(label), "by") = (token, name) {
                        found.groupings.insert(label.to_owned());
                    }
                }
            }
            continue;
        }
        // A function, or an aggregation with its grouping first.
        let is_called = matches!(tokens.peek(), Some(Token::Sign('(') | Token::Name("by" | "without")));
        if is_called || KEYWORDS.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        let mut matchers = vec![];
        if tokens.next_if_eq(&Token::Sign('{')).is_some() {
            let mut label = "";
            while let Some(token) = tokens.next().filter(|token| *token != Token::Sign('}')) {
                match token {
                    Token::Name(name) => label = name,
                    Token::Text(value) => matchers.push((label.to_owned(), value.to_owned())),
                    _ => {}
                }
            }
        }
        found.series.push(Series { name: name.to_owned(), matchers });
    }
    found
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    /// Without its quotes.
    Text(&'a str),
    /// Also a duration.
    Number,
    Sign(char),
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == ':';
    let mut found = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '"' | '\'' | '`' => {
                let end = end_of_quoted(&rest[1..], first);
                (Token::Text(&rest[1..1 + end]), (end + 2).min(rest.len()))
            }
            '0'..='9' => {
                let end = rest.find(|char| !is_word(char) && char != '.').unwrap_or(rest.len());
                (Token::Number, end)
            }
            _ if is_word(first) => {
                let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
                (Token::Name(&rest[..end]), end)
            }
            _ => (Token::Sign(first), first.len_utf8()),
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    found
}

/// Where the quote is that ends a text.
fn end_of_quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (position, char) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if char == '\\' && quote != '`' {
            escaped = true;
        } else if char == quote {
            return position;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text).series.into_iter().map(|series| series.name).collect()
    }

    #[test]
    fn series_are_told_from_functions_labels_and_durations() {
        let text = r#"sum by (outcome, le) (rate(interaction_likes_total{outcome=~"a|b", part!='c\'}d'}[5m] offset 1h)) / on (job) up > 1e3 and x"#;
        let found = parse(text);
        assert_eq!(names(text), ["interaction_likes_total", "up", "x"]);
        assert_eq!(found.groupings, ["le", "outcome"].map(str::to_owned).into());
        let expected = [("outcome", "a|b"), ("part", r"c\'}d")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(found.series[0].matchers, expected);
    }

    #[test]
    fn subqueries_and_recorded_names() {
        assert_eq!(names("max_over_time(job:likes:rate5m[1h:5m]) unless bool vector(0)"), ["job:likes:rate5m"]);
        assert_eq!(names("label_replace(a, \"b\", \"$1\", `c`, \"(.*)\")"), ["a"]);
        assert_eq!(names("quantile without (instance) (0.99, seconds_bucket)"), ["seconds_bucket"]);
    }

    #[test]
    fn what_never_ends_ends_here() {
        assert_eq!(names("a{b=\"c"), ["a"]);
        assert_eq!(names("a[5m"), ["a"]);
        assert_eq!(names("sum by (a"), Vec::<String>::new());
        assert_eq!(names(""), Vec::<String>::new());
    }
}
