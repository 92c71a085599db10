//! Reads the old tables, page by page, every value as text.

use super::table::{Column, Found};
use anyhow::{Context, bail};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement, Value};

/// The old database; only read.
pub(super) struct Source {
    connection: DatabaseConnection,
}

/// A row: its id and its values, in the order of the columns asked for.
pub(super) struct SourceRow {
    pub(super) id: i64,
    pub(super) values: Vec<Option<String>>,
}

impl Source {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        crate::has_client_of("--from-url", url)?;
        let connection = event_store::connect_plain(url, 1).await.context("could not connect to the old database")?;
        Ok(Self { connection })
    }

    fn is_mysql(&self) -> bool {
        self.connection.get_database_backend() == DbBackend::MySql
    }

    async fn query(&self, sql: String, values: Vec<Value>) -> anyhow::Result<Vec<QueryResult>> {
        let statement = Statement::from_sql_and_values(self.connection.get_database_backend(), &sql, values);
        self.connection.query_all_raw(statement).await.with_context(|| sql)
    }

    /// Columns of a table; none if there is no such table.
    pub(super) async fn columns(&self, table: &str) -> anyhow::Result<Vec<Found>> {
        let sql = if self.is_mysql() {
            "SELECT CONVERT(c.column_name USING utf8mb4), CAST(c.column_key IN ('PRI', 'UNI') AND NOT EXISTS (\
             SELECT 1 FROM information_schema.statistics s WHERE s.table_schema = c.table_schema \
             AND s.table_name = c.table_name AND s.index_name = 'PRIMARY' AND s.seq_in_index > 1 \
             AND c.column_key = 'PRI') AS SIGNED) FROM information_schema.columns c \
             WHERE c.table_schema = DATABASE() AND c.table_name = ? ORDER BY c.ordinal_position"
        } else {
            "SELECT name, pk = 1 AND NOT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE pk > 1) \
             FROM pragma_table_info(?1)"
        };
        let rows = self.query(sql.to_owned(), vec![table.into()]).await?;
        rows.iter()
            .map(|row| {
                let unique: i64 = row.try_get_by_index(1)?;
                Ok(Found { name: row.try_get_by_index(0)?, unique: unique != 0 })
            })
            .collect()
    }

    /// Rows of a table behind an id, which is the first of the columns, as of now.
    pub(super) async fn len(
        &self,
        table: &str,
        columns: &[(Column, String)],
        after: Option<i64>,
    ) -> anyhow::Result<u64> {
        let (_, id) = columns.first().context("no columns")?;
        let mut sql = format!("SELECT COUNT(*) FROM {}", quoted(table)?);
        if after.is_some() {
            sql.push_str(&format!(" WHERE {} > ?", quoted(id)?));
        }
        let rows = self.query(sql, after.map(Into::into).into_iter().collect()).await?;
        let count: i64 = rows.first().context("COUNT(*) gave nothing")?.try_get_by_index(0)?;
        Ok(count.unsigned_abs())
    }

    /// The next rows by id, which is the first of the columns.
    pub(super) async fn page(
        &self,
        table: &str,
        columns: &[(Column, String)],
        after: Option<i64>,
        limit: u32,
    ) -> anyhow::Result<Vec<SourceRow>> {
        let (_, id) = columns.first().context("no columns")?;
        let id = quoted(id)?;
        let mut list = Vec::new();
        for (_, name) in columns {
            let name = quoted(name)?;
            // As text, whatever the type and the character set; what is no text in it becomes a question mark.
            list.push(if self.is_mysql() {
                format!("CONVERT({name} USING utf8mb4)")
            } else {
                format!("CAST({name} AS TEXT)")
            });
        }
        let mut sql = format!("SELECT {} FROM {}", list.join(", "), quoted(table)?);
        let mut values = Vec::new();
        if let Some(after) = after {
            sql.push_str(&format!(" WHERE {id} > ?"));
            values.push(after.into());
        }
        sql.push_str(&format!(" ORDER BY {id} LIMIT {limit}"));
        let rows = self.query(sql, values).await?;
        rows.iter()
            .map(|row| {
                let values =
                    (0..columns.len()).map(|n| row.try_get_by_index(n)).collect::<Result<Vec<Option<String>>, _>>()?;
                let id = values.first().and_then(Option::as_deref).unwrap_or_default();
                let id = id.parse().with_context(|| format!("{table}: the id {id:?} is not a 64-bit number"))?;
                Ok(SourceRow { id, values })
            })
            .collect()
    }

    /// The id before the last `rows` rows up to this one; none if there are no more.
    pub(super) async fn before(
        &self,
        table: &str,
        columns: &[(Column, String)],
        id: i64,
        rows: u64,
    ) -> anyhow::Result<Option<i64>> {
        let (_, column) = columns.first().context("no columns")?;
        let (column, table) = (quoted(column)?, quoted(table)?);
        // As text, because the type may be without a sign.
        let text = if self.is_mysql() {
            format!("CONVERT({column} USING utf8mb4)")
        } else {
            format!("CAST({column} AS TEXT)")
        };
        let sql =
            format!("SELECT {text} FROM {table} WHERE {column} <= ? ORDER BY {column} DESC LIMIT 1 OFFSET {rows}");
        let found = self.query(sql, vec![id.into()]).await?;
        let Some(row) = found.first() else { return Ok(None) };
        let id: String = row.try_get_by_index(0)?;
        Ok(Some(id.parse().with_context(|| format!("{table}: the id {id:?} is not a 64-bit number"))?))
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.connection.close().await.context("closing the old database")
    }
}

/// A name in backticks, which MySQL and SQLite both take.
fn quoted(name: &str) -> anyhow::Result<String> {
    if name.is_empty() || name.contains(['`', '\0']) {
        bail!("{name:?} is no name of a table or column");
    }
    Ok(format!("`{name}`"))
}
