//! What differs between the databases' DDL, as words that a table's text is filled with.

use sea_orm_migration::prelude::{MigrationName, MigrationTrait, SchemaManager};
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, DbErr};

/// Placeholder, MySQL, SQLite.
const WORDS: [(&str, &str, &str); 8] = [
    ("{uuid}", "BINARY(16)", "BLOB"),
    // A short readable word such as a status; compared by bytes, one byte a letter.
    ("{word}", "VARCHAR(24) CHARACTER SET ascii COLLATE ascii_bin", "TEXT"),
    // A caller's own text, compared by bytes.
    ("{key}", "VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "TEXT"),
    ("{time}", "DATETIME(6)", "TEXT"),
    ("{long_text}", "TEXT", "TEXT"),
    ("{serial}", "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    // Tables whose primary key is their order of storage; InnoDB's always is.
    ("{clustered}", "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin", "WITHOUT ROWID"),
    ("{heap}", "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin", ""),
];

/// A migration that adds tables and nothing else.
pub(crate) struct NewTables {
    pub(crate) name: &'static str,
    pub(crate) tables: &'static [Table],
}

impl MigrationName for NewTables {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for NewTables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in self.tables {
            table.create(manager).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in self.tables {
            table.drop(manager).await?;
        }
        Ok(())
    }
}

/// A table and its secondary indexes, `(name, columns)`.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static str,
    pub(crate) options: &'static str,
    pub(crate) indexes: &'static [(&'static str, &'static str)],
}

impl Table {
    /// Creates what does not exist. On MySQL table and indexes are one statement: it happens or it does not.
    pub(crate) async fn create(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        let mysql = manager.get_database_backend() == DbBackend::MySql;
        let Self { name, columns, options, indexes } = self;
        let mut keys = String::new();
        if mysql {
            for (index, on) in *indexes {
                keys.push_str(&format!(", KEY {index} ({on})"));
            }
        }
        let mut ddl = format!("CREATE TABLE IF NOT EXISTS {name} ({columns}{keys}) {options}");
        for (word, in_mysql, in_sqlite) in WORDS {
            ddl = ddl.replace(word, if mysql { in_mysql } else { in_sqlite });
        }
        let db = manager.get_connection();
        db.execute_unprepared(&ddl).await?;
        if !mysql {
            for (index, on) in *indexes {
                db.execute_unprepared(&format!("CREATE INDEX IF NOT EXISTS {index} ON {name} ({on})")).await?;
            }
        }
        Ok(())
    }

    /// Drops the table if it exists.
    pub(crate) async fn drop(&self, manager: &SchemaManager<'_>) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(&format!("DROP TABLE IF EXISTS {}", self.name)).await?;
        Ok(())
    }
}

/// The table of likes of one type of things.
macro_rules! likes_table {
    ($kind:literal) => {
        $crate::schema::Table {
            name: concat!($kind, "_likes"),
            columns: concat!(
                "user_id BIGINT NOT NULL,
            ",
                $kind,
                "_id BIGINT NOT NULL,
            created_at {time} NOT NULL,
            updated_at {time} NOT NULL,
            deleted_at {time} NULL,
            version BIGINT NOT NULL,
            PRIMARY KEY (user_id, ",
                $kind,
                "_id)"
            ),
            options: "{clustered}",
            indexes: &[
                (concat!($kind, "_likes_of_user"), concat!("user_id, deleted_at, version, ", $kind, "_id")),
                (concat!($kind, "_likes_of_", $kind), concat!($kind, "_id, deleted_at, version, user_id")),
            ],
        }
    };
}
pub(crate) use likes_table;
