//! How results are printed: as a table for people, as JSON or tab-separated for programs.

use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Write;

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

/// A line of a table.
pub(crate) trait Row: Serialize {
    /// Names of the columns.
    const HEADERS: &'static [&'static str];

    /// What stands in them, in this order.
    fn cells(&self) -> Vec<String>;
}

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
            let lines = headers.chain(rows.iter().map(Row::cells)).map(|cells: Vec<String>| {
                // What would be another column or line.
                let cells: Vec<_> = cells.iter().map(|cell| cell.replace(['\t', '\n', '\r'], " ")).collect();
                format!("{}\n", cells.join("\t"))
            });
            Some(lines.collect())
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
    let mut text = String::new();
    for line in lines {
        let last = line.len().saturating_sub(1);
        for (column, cell) in line.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = match widths.get(column) {
                Some(width) if column < last => write!(text, "{cell:width$}   "),
                _ => write!(text, "{cell}"),
            };
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
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
}
