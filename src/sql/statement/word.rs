//! The words that the grammar gives a meaning, and where each of them can still be a name.

use crate::sql::token::TokenKind;

/// Where a word of the grammar can be a name (the server's `pg_get_keywords().catcode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Anything, unquoted.
    Free,
    /// A column or table, no function and no type.
    ColumnOnly,
    /// A function or type, no column and no table.
    FunctionOnly,
    /// Nothing but a label behind `AS`.
    Reserved,
}

macro_rules! words {
    ($($class:ident { $($name:ident $text:literal)* })*) => {
        /// A word of the grammar; those that are free to be any name only where the reader looks for them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::enum_variant_names, reason = "the word NONE is not the lack of one")]
        pub(super) enum Word {
            /// No token, no bare identifier, a name behind a dot, or a word that means nothing here.
            None,
            $($($name,)*)*
        }

        impl Word {
            fn lookup(lower: &[u8]) -> Self {
                match lower {
                    $($($text => Self::$name,)*)*
                    _ => Self::None,
                }
            }

            pub(super) const fn class(self) -> Class {
                match self {
                    Self::None => Class::Free,
                    $($(Self::$name => Class::$class,)*)*
                }
            }

            #[cfg(test)]
            pub(super) const ALL: &[(&[u8], Self)] = &[$($(($text, Self::$name),)*)*];
        }
    };
}

words! {
    Reserved {
        All b"all" Analyse b"analyse" Analyze b"analyze" And b"and" Any b"any" Array b"array" As b"as" Asc b"asc"
        Asymmetric b"asymmetric" Both b"both" Case b"case" Cast b"cast" Check b"check" Collate b"collate"
        Column b"column" Constraint b"constraint" Create b"create" CurrentCatalog b"current_catalog"
        CurrentDate b"current_date" CurrentRole b"current_role" CurrentTime b"current_time"
        CurrentTimestamp b"current_timestamp" CurrentUser b"current_user" Default b"default"
        Deferrable b"deferrable" Desc b"desc" Distinct b"distinct" Do b"do" Else b"else" End b"end"
        Except b"except" False b"false" Fetch b"fetch" For b"for" Foreign b"foreign" From b"from" Grant b"grant"
        Group b"group" Having b"having" In b"in" Initially b"initially" Intersect b"intersect" Into b"into"
        Lateral b"lateral" Leading b"leading" Limit b"limit" LocalTime b"localtime"
        LocalTimestamp b"localtimestamp" Not b"not" Null b"null" Offset b"offset" On b"on" Only b"only" Or b"or"
        Order b"order" Placing b"placing" Primary b"primary" References b"references" Returning b"returning"
        Select b"select" SessionUser b"session_user" Some b"some" Symmetric b"symmetric"
        SystemUser b"system_user" Table b"table" Then b"then" To b"to" Trailing b"trailing" True b"true"
        Union b"union" Unique b"unique" User b"user" Using b"using" Variadic b"variadic" When b"when"
        Where b"where" Window b"window" With b"with"
    }
    FunctionOnly {
        Authorization b"authorization" Binary b"binary" Collation b"collation" Concurrently b"concurrently"
        Cross b"cross" CurrentSchema b"current_schema" Freeze b"freeze" Full b"full" Ilike b"ilike"
        Inner b"inner" Is b"is" IsNull b"isnull" Join b"join" Left b"left" Like b"like" Natural b"natural"
        NotNull b"notnull" Outer b"outer" Overlaps b"overlaps" Right b"right" Similar b"similar"
        TableSample b"tablesample" Verbose b"verbose"
    }
    ColumnOnly {
        Between b"between" BigInt b"bigint" Bit b"bit" Boolean b"boolean" Char b"char" Character b"character"
        Coalesce b"coalesce" Dec b"dec" Decimal b"decimal" Exists b"exists" Extract b"extract" Float b"float"
        Greatest b"greatest" Grouping b"grouping" Inout b"inout" Int b"int" Integer b"integer"
        Interval b"interval" Json b"json" JsonArray b"json_array" JsonArrayAgg b"json_arrayagg"
        JsonExists b"json_exists" JsonObject b"json_object" JsonObjectAgg b"json_objectagg"
        JsonQuery b"json_query" JsonScalar b"json_scalar" JsonSerialize b"json_serialize"
        JsonTable b"json_table" JsonValue b"json_value" Least b"least" MergeAction b"merge_action"
        National b"national" Nchar b"nchar" NoneWord b"none" Normalize b"normalize" NullIf b"nullif"
        Numeric b"numeric" Out b"out" Overlay b"overlay" Position b"position" Precision b"precision"
        Real b"real" Row b"row" SetOf b"setof" SmallInt b"smallint" Substring b"substring" Time b"time"
        Timestamp b"timestamp" Treat b"treat" Trim b"trim" Values b"values" Varchar b"varchar"
        XmlAttributes b"xmlattributes" XmlConcat b"xmlconcat" XmlElement b"xmlelement" XmlExists b"xmlexists"
        XmlForest b"xmlforest" XmlNamespaces b"xmlnamespaces" XmlParse b"xmlparse" XmlPi b"xmlpi"
        XmlRoot b"xmlroot" XmlSerialize b"xmlserialize" XmlTable b"xmltable"
    }
    Free {
        Abort b"abort" Alter b"alter" At b"at" Begin b"begin" Breadth b"breadth" By b"by" Call b"call"
        Cascade b"cascade" Checkpoint b"checkpoint" Close b"close" Cluster b"cluster" Comment b"comment"
        Commit b"commit" Conflict b"conflict" Continue b"continue" Copy b"copy" Csv b"csv" Current b"current"
        Cursor b"cursor" Cycle b"cycle" Day b"day" Deallocate b"deallocate" Declare b"declare"
        Delete b"delete" Delimiters b"delimiters" Depth b"depth" Discard b"discard" Drop b"drop" Execute b"execute"
        Explain b"explain" Filter b"filter" First b"first" Format b"format" Global b"global" Hour b"hour"
        Identity b"identity" If b"if" Import b"import" Insert b"insert" Key b"key" Language b"language"
        Listen b"listen" Load b"load" Local b"local" Lock b"lock" Materialized b"materialized"
        Merge b"merge" Minute b"minute" Month b"month" Move b"move" No b"no" Nothing b"nothing"
        Notify b"notify" Of b"of" Off b"off" Operator b"operator" Over b"over" Overriding b"overriding"
        Partition b"partition" Prepare b"prepare" Program b"program" Reassign b"reassign"
        Recursive b"recursive" Refresh b"refresh" Reindex b"reindex" Release b"release" Reset b"reset"
        Restart b"restart" Restrict b"restrict" Revoke b"revoke" Rollback b"rollback" Rows b"rows"
        Savepoint b"savepoint" Search b"search" Second b"second" Security b"security" Set b"set"
        Share b"share" Show b"show" Start b"start" Stdin b"stdin" Stdout b"stdout" System b"system"
        Temp b"temp" Temporary b"temporary" Transaction b"transaction" Truncate b"truncate"
        Uescape b"uescape" Unknown b"unknown" Unlisten b"unlisten" Unlogged b"unlogged" Update b"update"
        Vacuum b"vacuum" Value b"value" Varying b"varying" View b"view" Within b"within"
        Without b"without" Year b"year" Zone b"zone"
    }
}

/// The longest word is `current_timestamp`.
const LONGEST: usize = 17;

impl Word {
    /// The word that a token is, if it is a bare identifier.
    #[inline]
    pub(super) fn of(kind: TokenKind, text: &[u8]) -> Self {
        if kind != TokenKind::Ident || text.len() > LONGEST {
            return Self::None;
        }
        let mut lower = [0_u8; LONGEST];
        for (to, from) in lower.iter_mut().zip(text) {
            *to = from.to_ascii_lowercase();
        }
        Self::lookup(lower.get(..text.len()).unwrap_or_default())
    }

    /// Can be a column's, table's, cursor's … name without quotes.
    pub(super) const fn is_column_name(self) -> bool {
        matches!(self.class(), Class::Free | Class::ColumnOnly)
    }

    /// Can be a function's or type's name, unqualified and without quotes.
    pub(super) const fn is_function_name(self) -> bool {
        matches!(self.class(), Class::Free | Class::FunctionOnly)
    }

    /// Can be a column's label without `AS`.
    pub(super) const fn is_bare_label(self) -> bool {
        !matches!(
            self,
            Self::Array
                | Self::As
                | Self::Char
                | Self::Character
                | Self::Create
                | Self::Day
                | Self::Except
                | Self::Fetch
                | Self::Filter
                | Self::For
                | Self::From
                | Self::Grant
                | Self::Group
                | Self::Having
                | Self::Hour
                | Self::Intersect
                | Self::Into
                | Self::IsNull
                | Self::Limit
                | Self::Minute
                | Self::Month
                | Self::NotNull
                | Self::Offset
                | Self::On
                | Self::Order
                | Self::Over
                | Self::Overlaps
                | Self::Precision
                | Self::Returning
                | Self::Second
                | Self::To
                | Self::Union
                | Self::Varying
                | Self::Where
                | Self::Window
                | Self::With
                | Self::Within
                | Self::Without
                | Self::Year
        )
    }

    /// Begins a query: `SELECT`, `VALUES`, `TABLE` or a `WITH` before one.
    pub(super) const fn begins_query(self) -> bool {
        matches!(self, Self::Select | Self::Values | Self::Table | Self::With)
    }
}
