//! The old schema as it is assumed to be, and what a database really has of it.
//!
//! | table | columns that must be there | columns that may be there |
//! |---|---|---|
//! | `user_behaviors` | `id`, `user_id`, `video_id`, `behavior_type`, `behavior_time` | `created_at`, `updated_at` (not read) |
//! | `video_likes` | `id`, `user_id`, `video_id`, `created_at` | `updated_at`, `deleted_at`, `is_deleted` or `deleted` |
//! | `comment_likes`, and so on | `id`, `user_id`, `comment_id`, `created_at` | the same |
//!
//! `id` is the numeric primary key. All other columns may have any type: they are read as text.

use anyhow::bail;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use domain::ResourceType;

/// A table of the old schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The history.
    UserBehaviors,
    /// Likes of one type of things.
    Likes(ResourceType),
}

impl ValueEnum for Table {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// A column of the old schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "columns are called what they are")]
pub enum Column {
    Id,
    UserId,
    /// That of the history is called after videos, whatever the row is about.
    ResourceId(ResourceType),
    BehaviorType,
    BehaviorTime,
    CreatedAt,
    UpdatedAt,
    DeletedAt,
    IsDeleted,
    Deleted,
}

impl Column {
    /// Its name, as assumed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::UserId => "user_id",
            Self::ResourceId(kind) => kind.id_column(),
            Self::BehaviorType => "behavior_type",
            Self::BehaviorTime => "behavior_time",
            Self::CreatedAt => "created_at",
            Self::UpdatedAt => "updated_at",
            Self::DeletedAt => "deleted_at",
            Self::IsDeleted => "is_deleted",
            Self::Deleted => "deleted",
        }
    }
}

impl Table {
    /// All, the history first.
    pub const ALL: [Self; 1 + ResourceType::ALL.len()] = {
        let mut all = [Self::UserBehaviors; 1 + ResourceType::ALL.len()];
        let mut at = 0;
        while at < ResourceType::ALL.len() {
            all[at + 1] = Self::Likes(ResourceType::ALL[at]);
            at += 1;
        }
        all
    };

    /// Its name, without a prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserBehaviors => "user_behaviors",
            Self::Likes(kind) => kind.likes_table(),
        }
    }

    /// Columns that must be there, `id` first.
    pub fn required(self) -> Vec<Column> {
        use Column::{BehaviorTime, BehaviorType, CreatedAt, Id, ResourceId, UserId};
        match self {
            Self::UserBehaviors => vec![Id, UserId, ResourceId(ResourceType::Video), BehaviorType, BehaviorTime],
            Self::Likes(kind) => vec![Id, UserId, ResourceId(kind), CreatedAt],
        }
    }

    /// Columns that may be there.
    pub const fn optional(self) -> &'static [Column] {
        use Column::{CreatedAt, Deleted, DeletedAt, IsDeleted, UpdatedAt};
        match self {
            Self::UserBehaviors => &[CreatedAt, UpdatedAt],
            Self::Likes(_) => &[UpdatedAt, DeletedAt, IsDeleted, Deleted],
        }
    }
}

/// A column that has another name than assumed, `table.assumed=actual`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    table: Table,
    column: Column,
    actual: String,
}

/// Parses [`Renamed`].
pub fn parse_renamed(text: &str) -> Result<Renamed, String> {
    let wrong = || "expected table.column=actual_column".to_owned();
    let (assumed, actual) = text.split_once('=').ok_or_else(wrong)?;
    let (table, column) = assumed.split_once('.').ok_or_else(wrong)?;
    let table =
        Table::ALL.into_iter().find(|known| known.name() == table).ok_or(format!("no table {table} is read"))?;
    let mut known = table.required().into_iter().chain(table.optional().iter().copied());
    let column = known.find(|known| known.name() == column).ok_or(format!("no column {column} is read there"))?;
    if actual.is_empty() { Err(wrong()) } else { Ok(Renamed { table, column, actual: actual.to_owned() }) }
}

/// A column as it is: whether it is the primary key alone, or else unique alone.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) unique: bool,
}

/// Which columns to read, with their actual names; the error says everything that is wrong with the table.
pub(super) fn plan(
    table: Table,
    name: &str,
    found: &[Found],
    renamed: &[Renamed],
    ignored: &[String],
) -> anyhow::Result<Vec<(Column, String)>> {
    if found.is_empty() {
        bail!(
            "there is no table {name}; --tables names the ones to read, --table-prefix what stands before their names"
        );
    }
    let actual = |column: Column| {
        let new_name = renamed.iter().find(|renamed| renamed.table == table && renamed.column == column);
        new_name.map_or_else(|| column.name().to_owned(), |renamed| renamed.actual.clone())
    };
    let (mut columns, mut wrong) = (Vec::new(), Vec::new());
    for (column, must) in table
        .required()
        .into_iter()
        .map(|column| (column, true))
        .chain(table.optional().iter().map(|column| (*column, false)))
    {
        let name = actual(column);
        if let Some(there) = found.iter().find(|found| found.name.eq_ignore_ascii_case(&name)) {
            if column == Column::Id && !there.unique {
                wrong.push(format!("{name} is not the primary key"));
            }
            columns.push((column, there.name.clone()));
        } else if must || name != column.name() {
            wrong.push(format!("column {name} is missing"));
        }
    }
    let known = |found: &&Found| {
        columns.iter().any(|(_, name)| *name == found.name)
            || ignored.iter().any(|ignored| ignored.eq_ignore_ascii_case(&found.name))
    };
    let unknown: Vec<&str> = found.iter().filter(|found| !known(found)).map(|found| found.name.as_str()).collect();
    if !unknown.is_empty() {
        wrong.push(format!("unknown columns {} (--ignore-columns if they mean nothing)", unknown.join(", ")));
    }
    if wrong.is_empty() { Ok(columns) } else { bail!("table {name}: {}", wrong.join("; ")) }
}
