//! Keys that change where conflicts are settled: the row of the old key is deleted, and one of the new key is written, which
//! other changes of either row meet as they would meet these.

use crate::journal::entry::{ColumnRole, Head, ImageColumn, Op};
use crate::journal::image::Image;
use crate::journal::key_differs;

/// What an entry is taken for whose images hold the key before and after.
pub(super) struct Moved {
    gone: Head,
    made: Head,
    /// In place of both where an image's key has stayed.
    kept: Head,
    /// Of each column of these heads, where its value stands in the entry's images, and where the one before does.
    places: Vec<(usize, usize)>,
}

/// Which of them an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Gone,
    Made,
    Kept,
}

// === impl Moved ===

impl Moved {
    /// None where the entry's images hold one key.
    pub(super) fn new(head: &Head) -> Option<Self> {
        if !head.rekeys() || head.op == Op::Merge {
            return None;
        }
        let width = head.extra.width();
        let before = |name: &str| head.columns.iter().position(|c| c.role == ColumnRole::Key && c.name == name);
        let now = || head.columns.iter().enumerate().filter(|(_, column)| column.role == ColumnRole::Value);
        let with = |op: Op, key: ColumnRole| {
            let role = |name: &str| if before(name).is_some() { key } else { ColumnRole::Value };
            let columns = now().map(|(_, column)| ImageColumn { role: role(&column.name), ..column.clone() });
            Head { op, columns: columns.collect(), ..head.clone() }
        };
        let place = |(at, column): (usize, &ImageColumn)| {
            (at.saturating_add(width), before(&column.name).unwrap_or(at).saturating_add(width))
        };
        Some(Self {
            gone: with(Op::Delete, ColumnRole::Key),
            made: with(Op::Upsert, ColumnRole::KeyValue),
            kept: with(head.op, ColumnRole::KeyValue),
            places: now().map(place).collect(),
        })
    }

    pub(super) fn head(&self, part: Part) -> &Head {
        match part {
            Part::Gone => &self.gone,
            Part::Made => &self.made,
            Part::Kept => &self.kept,
        }
    }

    /// What an image of the entry is, in order; `head` is the entry's. None where it does not fit.
    pub(super) fn parts<'a>(&self, head: &Head, image: &Image<'a>) -> Option<Vec<(Part, Image<'a>)>> {
        let width = head.extra.width();
        let columns = image.values.get(width..).filter(|values| values.len() == head.columns.len())?;
        let part = |which: fn(&(usize, usize)) -> usize| {
            let places = (0..width).chain(self.places.iter().map(which));
            let values = places.map(|at| image.values.get(at).copied()).collect::<Option<_>>()?;
            Some(Image { tableoid: image.tableoid, values })
        };
        let now = part(|(now, _)| *now)?;
        Some(match key_differs(&head.columns, columns) {
            true => vec![(Part::Gone, part(|(_, before)| *before)?), (Part::Made, now)],
            false => vec![(Part::Kept, now)],
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;
    use crate::journal::entry::{Extra, sample};
    use crate::journal::image::Value;

    #[test]
    fn another_key_is_a_deletion_and_a_row() {
        let column = |name: &str, role| ImageColumn { name: name.into(), role, ..sample().columns.remove(0) };
        let columns = vec![
            column("a", ColumnRole::Key),
            column("b", ColumnRole::Key),
            column("v", ColumnRole::Value),
            column("b", ColumnRole::Value),
            column("a", ColumnRole::Value),
        ];
        let head = Head { op: Op::Update, columns, extra: Extra::Filter, ..sample() };
        let moved = Moved::new(&head).unwrap();
        let roles = |head: &Head| head.columns.iter().map(|c| (c.name.clone(), c.role)).collect::<Vec<_>>();
        let expected = |key| vec![("v".into(), ColumnRole::Value), ("b".into(), key), ("a".into(), key)];
        assert_eq!((moved.gone.op, roles(&moved.gone)), (Op::Delete, expected(ColumnRole::Key)));
        assert_eq!((moved.made.op, roles(&moved.made)), (Op::Upsert, expected(ColumnRole::KeyValue)));
        assert_eq!((moved.kept.op, roles(&moved.kept)), (Op::Update, expected(ColumnRole::KeyValue)));

        let image = |values: &[&'static str]| Image {
            tableoid: 1,
            values: values.iter().map(|v| Value { type_oid: 25, bytes: Some(v.as_bytes()) }).collect(),
        };
        assert_eq!(
            moved.parts(&head, &image(&["t", "a", "b", "v", "b", "a2"])).unwrap(),
            [(Part::Gone, image(&["t", "v", "b", "a"])), (Part::Made, image(&["t", "v", "b", "a2"]))]
        );
        assert_eq!(
            moved.parts(&head, &image(&["t", "a", "b", "v", "b", "a"])).unwrap(),
            [(Part::Kept, image(&["t", "v", "b", "a"]))]
        );
        let mut inserted = image(&["t", "a", "b", "v", "b", "a"]);
        inserted.values.iter_mut().skip(1).take(2).for_each(|value| value.bytes = None);
        assert_eq!(moved.parts(&head, &inserted).unwrap(), [(Part::Kept, image(&["t", "v", "b", "a"]))]);
        assert!(moved.parts(&head, &image(&["t", "a", "b", "v", "b"])).is_none());
        assert!(Moved::new(&moved.gone).is_none() && Moved::new(&moved.kept).is_none());
    }
}
