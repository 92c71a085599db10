//! A database that becomes what it once was.

use super::Deployment;
use anyhow::Result;

/// What copies of tables are called.
const COPY: &str = "copy_of_";

impl Deployment {
    /// Copies every table as it is now, in place of an earlier copy.
    pub async fn copy_database(&self) -> Result<()> {
        for table in self.tables().await? {
            let copy = format!("{COPY}{table}");
            self.sql(&format!("CREATE OR REPLACE TABLE {copy} AS SELECT * FROM {table}")).await?;
        }
        Ok(())
    }

    /// Every table becomes what was copied, as if a replica that was behind had been promoted.
    pub async fn restore_database(&self) -> Result<()> {
        let mut statements = "SET autocommit = 0; ".to_owned();
        for table in self.tables().await? {
            statements += &format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {COPY}{table}; ");
        }
        self.sql(&(statements + "COMMIT")).await.map(drop)
    }

    async fn tables(&self) -> Result<Vec<String>> {
        let query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()";
        let tables = self.sql(query).await?;
        Ok(tables.lines().filter(|table| !table.starts_with(COPY)).map(str::to_owned).collect())
    }
}
