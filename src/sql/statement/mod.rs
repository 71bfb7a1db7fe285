//! What one statement says, read from its tokens: head, target, clauses, and the expressions that can be proved.
//!
//! Exact where it claims to know: whatever the reader does not understand is [`Expr::Opaque`] or an `opaque` flag, never
//! a guess. Nothing here knows a catalog; names are as written, folded as the server folds them.

mod copy;
mod copy_options;
mod cursor;
mod ddl;
mod expr;
mod head;
mod insert;
mod literal;
mod merge;
mod returning;
mod scan;
mod truncate;
mod types;
mod update;
mod with;
mod word;

use crate::sql::Name;

pub use head::read;
pub use literal::decode as string_content;

/// The bytes `start..end` of a statement's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// A name of one or two parts (a leading database is dropped), and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub span: Span,
    pub schema: Option<Name>,
    pub name: Name,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub kind: Kind,
    /// Behind the last token that is neither comment nor semicolon: here `RETURNING` can be appended.
    pub end: usize,
    /// The `WITH` in front of the outermost statement.
    pub with: Option<With>,
    /// The highest `$n`.
    pub max_param: u16,
    /// Every relation name in a position where one is read or written (FROM, JOIN, USING, INTO, UPDATE, TABLE, …), at any
    /// depth, targets included, without the names of CTEs that are in scope.
    pub relations: Vec<Written>,
    /// Every `name(` that can be a call of a function, at any depth, also those that the grammar spells as keywords
    /// (`coalesce(` is not one; `substring(`, `overlay(`, `xmlelement(` … are listed under their keyword).
    pub calls: Vec<Written>,
    /// Words that make it depend on the moment or the session: `current_timestamp`, `localtime`, `current_user`,
    /// `session_user`, …, `limit`/`offset`/`fetch` without being provably ordered, `tablesample`, `skip locked`.
    pub moods: Moods,
    /// String constants whose content is a word such as `now`, `today`, `tomorrow`, `yesterday` (trimmed, any case).
    pub moment_strings: bool,
    /// Of [`Kind::Ddl`] what is about tables.
    pub ddl: Option<Box<Ddl>>,
}

/// What a statement depends on besides its words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moods {
    /// `current_timestamp`, `current_date`, `localtime`, …
    pub clock: bool,
    /// `current_user`, `current_role`, `session_user`, `user`, `current_schema`, `current_catalog`
    pub who: bool,
    /// `LIMIT`, `OFFSET`, `FETCH FIRST`
    pub limit: bool,
    /// `TABLESAMPLE`
    pub sample: bool,
    /// `FOR UPDATE` and its kin
    pub locking: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Merge(Merge),
    Truncate(Truncate),
    Copy(Copy),
    /// `SELECT`, `VALUES`, `TABLE`, parenthesised or not; `into` for `SELECT … INTO`.
    Select {
        into: Option<Written>,
    },
    /// `PREPARE name [(types)] AS …`: `body` is where the inner statement stands, `inner` is relative to it.
    Prepare {
        name: Name,
        /// From behind the name to before `AS`: the list of types, if there is one.
        types: Span,
        body: Span,
        inner: Box<Statement>,
    },
    /// `EXECUTE name [(…)]`
    Execute {
        name: Name,
        name_span: Span,
    },
    Explain {
        analyze: bool,
        inner: Box<Statement>,
    },
    /// `DECLARE … CURSOR … FOR …`
    Declare,
    Call(Written),
    /// `DO`: the decoded body, where it is one plain, escape or dollar-quoted string.
    Do {
        body: Option<Box<[u8]>>,
    },
    /// `CREATE TABLE … AS …`, `CREATE MATERIALIZED VIEW … AS …`
    CreateAs {
        relation: Written,
    },
    /// `CREATE`, `ALTER`, `DROP`, `GRANT`, `REVOKE`, `COMMENT`, `REINDEX`, `IMPORT`, `SECURITY LABEL`, …: changes the catalog.
    Ddl,
    /// `SET`, `RESET`, `DISCARD`, `LOAD`, `IMPORT`: may change how later statements are understood.
    Session,
    /// `LOCK`, `SHOW`, `FETCH`, `VACUUM`, `LISTEN`, `BEGIN`, `COMMIT`, …: writes no table and changes no name.
    Other,
    /// A head that this reader does not know, or a text it cannot read.
    Unknown,
}

/// DDL about tables and their indexes.
#[derive(Clone, Debug, PartialEq)]
pub struct Ddl {
    pub verb: Verb,
    /// What it acts on: tables, or indexes, or schemas.
    pub targets: Vec<Written>,
    /// `PARTITION OF`, `INHERITS`, `[NO] INHERIT`
    pub parents: Vec<Written>,
    /// `REFERENCES`, `LIKE`, `ATTACH` and `DETACH PARTITION`
    pub others: Vec<Written>,
    /// Further indexes.
    pub indexes: Vec<Written>,
    pub if_exists: bool,
    pub cascade: bool,
    pub temporary: bool,
    pub concurrently: bool,
    /// It makes tables in a way that is not taken apart.
    pub opaque: bool,
    /// `RENAME TO`
    pub rename: Option<Name>,
    /// `SET SCHEMA`; of ALTER SCHEMA the schema itself.
    pub schema: Option<Name>,
    /// `OWNER TO`
    pub owner: bool,
    /// Expressions that it evaluates once: for rows that are there, or for the bounds of a partition.
    pub values: Vec<Span>,
    /// It numbers the rows that are there.
    pub numbers_rows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    CreateTable,
    CreateIndex,
    AlterTable,
    AlterIndex,
    AlterSchema,
    DropTable,
    DropIndex,
    DropSchema,
    /// `COMMENT ON TABLE`, `COMMENT ON COLUMN`
    Comment,
}

/// `WITH [RECURSIVE] a AS (…), …`
#[derive(Clone, Debug, PartialEq)]
pub struct With {
    pub recursive: bool,
    /// From `WITH` to before the outermost statement's own head.
    pub span: Span,
    /// From the first CTE's name to behind the last CTE: what a longer list can be made of.
    pub list: Span,
    pub ctes: Vec<Cte>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cte {
    pub name: Name,
    pub name_span: Span,
    /// `name (a, b)`, with its parentheses.
    pub aliases: Option<Span>,
    /// Inside the parentheses, from the first token to the last one.
    pub body: Span,
    /// Where the closing parenthesis stands.
    pub close: usize,
    /// The inner statement where it writes (its spans count from the start of the whole text); none for a query.
    pub writes: Option<Box<Kind>>,
}

/// The table that a statement writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub relation: Written,
    /// `ONLY`
    pub only: bool,
    /// What columns of the target are qualified with, as written (quoted as in the text): the alias or the name's last part.
    pub reference: Span,
    pub alias: Option<Name>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    pub target: Target,
    /// None: all columns in order.
    pub columns: Option<Vec<Name>>,
    /// A target such as `a[1]` or `a.b`.
    pub opaque_columns: bool,
    /// `OVERRIDING SYSTEM VALUE` or `USER VALUE`
    pub overriding: Option<Overriding>,
    pub source: Source,
    pub on_conflict: Option<OnConflict>,
    pub returning: Option<Returning>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overriding {
    System,
    User,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `VALUES (…), …`; `None` is `DEFAULT`.
    Values(Vec<Vec<Option<Expr>>>),
    DefaultValues,
    /// `SELECT …`, `TABLE …`, parenthesised queries, `VALUES` with anything behind it.
    Query,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OnConflict {
    pub action: ConflictAction,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ConflictAction {
    Nothing,
    Update { set: Vec<Assign>, filter: Option<Expr> },
}

/// `column = …`
#[derive(Clone, Debug, PartialEq)]
pub struct Assign {
    pub column: Name,
    /// `a[1] = …`, `a.b = …`
    pub part: bool,
    /// None for `DEFAULT`; [`Expr::Opaque`] for what comes out of a sub-select.
    pub value: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub target: Target,
    pub set: Vec<Assign>,
    pub from: bool,
    pub filter: Option<Expr>,
    /// Where `filter` stands.
    pub filter_at: Span,
    pub current_of: bool,
    pub returning: Option<Returning>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    pub target: Target,
    pub using: bool,
    pub filter: Option<Expr>,
    pub current_of: bool,
    pub returning: Option<Returning>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Merge {
    pub target: Target,
    /// Columns that some `UPDATE` of it assigns.
    pub assigns: Vec<Name>,
    pub inserts: bool,
    pub deletes: bool,
    pub returning: Option<Returning>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Truncate {
    pub targets: Vec<Target>,
    pub restart_identity: bool,
    pub cascade: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// None for `COPY (query) TO`.
    pub target: Option<Target>,
    pub direction: CopyDirection,
    pub columns: Option<Vec<Name>>,
    pub format: CopyFormat,
    /// None where they are not understood.
    pub options: Option<CopyOptions>,
    /// An option `DEFAULT`, or what may be one.
    pub defaults: bool,
    /// `WHERE …` of a COPY FROM, that word included.
    pub condition: Option<Span>,
    /// From behind the table and its columns, or the query's parenthesis, to the end.
    pub rest: Span,
    /// The query of a `COPY (query) TO` is an `INSERT … RETURNING` or its like, or has one in its `WITH`.
    pub writes: bool,
}

/// How a COPY's data is laid out, as far as it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    pub delimiter: Option<Vec<u8>>,
    pub null: Option<Vec<u8>>,
    pub quote: Option<Vec<u8>>,
    pub escape: Option<Vec<u8>>,
    /// What stands for a column's default.
    pub default: Option<Vec<u8>>,
    pub encoding: Option<Vec<u8>>,
    /// The first line holds names.
    pub header: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    FromStdin,
    /// A file or a program.
    FromServer,
    To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
    Other,
}

/// A statement's own `RETURNING`.
#[derive(Clone, Debug, PartialEq)]
pub struct Returning {
    /// From `RETURNING` to the statement's end.
    pub span: Span,
    /// PostgreSQL 18's `RETURNING WITH (OLD AS o, NEW AS n)`.
    pub with: bool,
    /// The names that its items bear, where every one of them is told by the text alone; `*` and `t.*` stand as [`Item::All`].
    pub items: Option<Vec<Item>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `*`, or `t.*` of the target.
    All,
    Named(Name),
}

/// An expression of the small grammar whose meaning can be told without executing it.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Param(u16),
    Null,
    Bool(bool),
    Number,
    /// A string constant of any kind but bit strings.
    String,
    BitString,
    /// `a`, `t.a`, `excluded.a`
    Column {
        qualifier: Option<Name>,
        name: Name,
    },
    /// Prefix or infix operator, by its characters; `LIKE` is `~~`, `ILIKE` `~~*`, with their negations.
    Operator {
        name: Name,
        operands: Vec<Expr>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// `IS [NOT] NULL`, `IS [NOT] TRUE`, …
    Is(Box<Expr>),
    /// `IS [NOT] DISTINCT FROM`
    Distinct(Box<Expr>, Box<Expr>),
    /// `of [NOT] IN (…)`
    In {
        of: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    /// `[NOT] BETWEEN`
    Between(Vec<Expr>),
    /// `= ANY (…)`, by operator; `ALL` is opaque.
    Any {
        of: Box<Expr>,
        operator: Name,
        array: Box<Expr>,
    },
    /// `(a, b)` or `ROW(a, b)`
    Row(Vec<Expr>),
    /// `ARRAY[…]`
    Array(Vec<Expr>),
    Call {
        schema: Option<Name>,
        name: Name,
        args: Vec<Expr>,
    },
    /// `coalesce`, `greatest`, `least`, `nullif`, `CASE`: built into the grammar, as good as their operands.
    Pure(Vec<Expr>),
    /// `x::type`, `CAST (x AS type)`, `type 'x'`: the type as the server folds it, without modifiers and brackets.
    Cast {
        to: Type,
        of: Box<Expr>,
    },
    Opaque,
}

/// A type's name as written in a cast.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    pub schema: Option<Name>,
    /// In `pg_catalog`'s spelling where the grammar has its own words (`int` is `int4`, `character varying` is `varchar`).
    pub name: Name,
    pub array: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed one is a failed test")]
mod tests;
