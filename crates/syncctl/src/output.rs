//! How results are printed: as a table, or in words, for people; as JSON or tab-separated for programs.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use std::fmt::{Display, Write};

/// `-o`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns with headers.
    #[default]
    Table,
    /// One value, or an array of objects.
    Json,
    /// Headers and values with tabs between them.
    Tsv,
}

impl Format {
    /// `--json` says the same as `-o json`.
    pub(crate) const fn or_json(self, json: bool) -> Self {
        if json { Self::Json } else { self }
    }
}

/// A number and its noun, as `1 like` and `2 likes`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(number: N, one: &str, more: &str) -> String {
    format!("{number} {}", if number == N::from(1) { one } else { more })
}

/// Prints one result: in words for people, else its fields.
pub(crate) fn print_one(format: Format, result: &impl Serialize, in_words: impl FnOnce()) -> anyhow::Result<()> {
    match format {
        Format::Table => in_words(),
        Format::Json => println!("{}", serde_json::to_string(result)?),
        Format::Tsv => print!("{}", fields(&serde_json::to_value(result)?)),
    }
    Ok(())
}

/// A line for each field. What is inside another one has its name before it: `latency_us.p50`.
fn fields(result: &Value) -> String {
    fn add(lines: &mut String, name: &str, value: &Value) {
        let inner = |inner: &str| if name.is_empty() { inner.to_owned() } else { format!("{name}.{inner}") };
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| add(lines, &inner(key), value)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, value)| add(lines, &inner(&at.to_string()), value));
            }
            Value::String(text) => lines.push_str(&line(&[name.to_owned(), text.clone()])),
            Value::Null => lines.push_str(&line(&[name.to_owned(), "-".to_owned()])),
            other => lines.push_str(&line(&[name.to_owned(), other.to_string()])),
        }
    }
    let mut lines = line(&["FIELD".to_owned(), "VALUE".to_owned()]);
    add(&mut lines, "", result);
    lines
}

/// Cells with tabs between them, without what would be another column or line.
fn line(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace(['\t', '\n', '\r'], " ")).collect();
    format!("{}\n", cells.join("\t"))
}

/// A line of a table.
pub(crate) trait Row: Serialize {
    /// Names of the columns.
    const HEADERS: &'static [&'static str];

    /// What stands in them, in this order.
    fn cells(&self) -> Vec<String>;
}

/// Rows that come one after the other, without an end: a header first; as JSON an object on each line.
pub(crate) struct Updates {
    format: Format,
    begun: bool,
}

impl Updates {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format, begun: false }
    }

    pub(crate) fn print<R: Row>(&mut self, row: &R) -> anyhow::Result<()> {
        print!("{}", self.render(row)?);
        Ok(())
    }

    fn render<R: Row>(&mut self, row: &R) -> anyhow::Result<String> {
        let cells = |cells: &[String]| match self.format {
            Format::Tsv => line(cells),
            // Whoever is waited for may have a longer name.
            _ => table_line(cells, &[COLUMN; 8]),
        };
        let headers: Vec<_> = R::HEADERS.iter().map(ToString::to_string).collect();
        let text = match (self.format, self.begun) {
            (Format::Json, _) => format!("{}\n", serde_json::to_string(row)?),
            (_, false) => format!("{}{}", cells(&headers), cells(&row.cells())),
            (_, true) => cells(&row.cells()),
        };
        self.begun = true;
        Ok(text)
    }
}

/// Width of a column whose cells are not known yet.
const COLUMN: usize = 24;

/// Prints rows. Of none a table says so, on standard error: who reads the output finds nothing in it.
pub(crate) fn print<R: Row>(format: Format, rows: &[R]) -> anyhow::Result<()> {
    match render(format, rows)? {
        Some(text) => print!("{text}"),
        None => eprintln!("No resources found"),
    }
    Ok(())
}

fn render<R: Row>(format: Format, rows: &[R]) -> anyhow::Result<Option<String>> {
    Ok(match format {
        Format::Json => Some(format!("{}\n", serde_json::to_string(rows)?)),
        Format::Tsv => {
            let headers = std::iter::once(R::HEADERS.iter().map(ToString::to_string).collect());
            let lines = headers.chain(rows.iter().map(Row::cells));
            Some(lines.map(|cells: Vec<String>| line(&cells)).collect())
        }
        Format::Table if rows.is_empty() => None,
        Format::Table => Some(table(R::HEADERS, rows.iter().map(Row::cells))),
    })
}

fn table(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = headers.iter().map(|name| (*name).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(header)
        .chain(rows.map(|row| row.iter().map(|cell| cell.replace(['\t', '\n', '\r'], " ")).collect()))
        .collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headers.len()).map(width).collect();
    lines.iter().map(|line| table_line(line, &widths)).collect()
}

/// Cells in columns of these widths.
fn table_line(cells: &[String], widths: &[usize]) -> String {
    let (mut text, last) = (String::new(), cells.len().saturating_sub(1));
    for (column, cell) in cells.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = match widths.get(column) {
            Some(width) if column < last => write!(text, "{cell:width$}   "),
            _ => write!(text, "{cell}"),
        };
    }
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Line {
        name: &'static str,
        count: i64,
    }

    impl Row for Line {
        const HEADERS: &'static [&'static str] = &["NAME", "COUNT"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.count.to_string()]
        }
    }

    #[test]
    fn the_same_in_each_form() {
        let rows = [Line { name: "video:1", count: 7 }, Line { name: "a\tlong name", count: 12 }];
        let render = |format, rows: &[Line]| render(format, rows).unwrap_or_default();
        assert_eq!(
            render(Format::Table, &rows).as_deref(),
            Some("NAME          COUNT\nvideo:1       7\na long name   12\n")
        );
        assert_eq!(render(Format::Tsv, &rows).as_deref(), Some("NAME\tCOUNT\nvideo:1\t7\na long name\t12\n"));
        assert_eq!(
            render(Format::Json, &rows).as_deref(),
            Some("[{\"name\":\"video:1\",\"count\":7},{\"name\":\"a\\tlong name\",\"count\":12}]\n")
        );
        assert_eq!(render(Format::Table, &[]), None);
        assert_eq!(render(Format::Tsv, &[]).as_deref(), Some("NAME\tCOUNT\n"));
        assert_eq!(render(Format::Json, &[]).as_deref(), Some("[]\n"));
    }

    #[test]
    fn what_comes_later_has_one_header() {
        let rows = [Line { name: "video:1", count: 7 }, Line { name: "b", count: 12 }];
        let all = |format| {
            let mut updates = Updates::new(format);
            rows.iter().map(|row| updates.render(row).unwrap_or_default()).collect::<String>()
        };
        let table = format!("{:27}COUNT\n{:27}7\n{:27}12\n", "NAME", "video:1", "b");
        assert_eq!(all(Format::Table), table);
        assert_eq!(all(Format::Tsv), "NAME\tCOUNT\nvideo:1\t7\nb\t12\n");
        assert_eq!(all(Format::Json), "{\"name\":\"video:1\",\"count\":7}\n{\"name\":\"b\",\"count\":12}\n");
    }

    #[test]
    fn a_result_is_its_fields() {
        let result = serde_json::json!({"at": null, "b": [{"c": "d\te"}, 2], "f": {"g": true}});
        assert_eq!(fields(&result), "FIELD\tVALUE\nat\t-\nb.0.c\td e\nb.1\t2\nf.g\ttrue\n");
    }
}
