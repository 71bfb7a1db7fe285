use super::*;
use proptest::prelude::*;

/// The whole data at once, as the server reads it: lines, then fields, then words.
fn reference(layout: &Layout, data: &[u8]) -> bool {
    let lines = lines(layout, data);
    lines.iter().skip(usize::from(layout.header)).any(|line| {
        let fields = match layout.csv {
            None => text_fields(layout.delimiter, line),
            Some((quote, escape)) => csv_fields(layout.delimiter, quote, escape, line),
        };
        let watched = |(at, field): (usize, &Vec<u8>)| match layout.columns.get(at) {
            None | Some(Watch::No) => false,
            Some(Watch::Plain) => has_word(field),
            Some(Watch::Quoted) => {
                let marks = |b: &u8| matches!(b, b'"' | b'\\');
                has_word(field) || has_word(&field.iter().copied().filter(|b| !marks(b)).collect::<Vec<_>>())
            }
        };
        fields.iter().enumerate().any(watched)
    })
}

fn has_word(value: &[u8]) -> bool {
    value.split(|b| !b.is_ascii_alphabetic()).any(|word| {
        ["now", "today", "tomorrow", "yesterday"].iter().any(|moment| word.eq_ignore_ascii_case(moment.as_bytes()))
    })
}

fn lines(layout: &Layout, data: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, mut line, mut end, mut in_quote, mut escaped) = (Vec::new(), Vec::new(), None, false, false);
    let mut at = 0;
    while let Some(&b) = data.get(at) {
        at += 1;
        let is_end = match end {
            Some(end) => b == end,
            None => b == b'\n' || b == b'\r',
        };
        if let Some((quote, escape)) = layout.csv {
            if in_quote && b == escape && quote != escape {
                escaped = !escaped;
            }
            if b == quote && !escaped {
                in_quote = !in_quote;
            }
            if b != escape || quote == escape {
                escaped = false;
            }
        } else if b == b'\\' {
            line.push(b);
            line.extend(data.get(at));
            at += 1;
            continue;
        }
        if is_end && !in_quote {
            lines.push(std::mem::take(&mut line));
            if end.is_none() {
                let crnl = b == b'\r' && data.get(at) == Some(&b'\n');
                at += usize::from(crnl);
                end = Some(if crnl { b'\n' } else { b });
            }
        } else {
            line.push(b);
        }
    }
    lines.push(line);
    lines
}

fn text_fields(delimiter: u8, line: &[u8]) -> Vec<Vec<u8>> {
    let (mut fields, mut field, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(&b) = line.get(at) {
        at += 1;
        if b == delimiter {
            fields.push(std::mem::take(&mut field));
            continue;
        }
        if b != b'\\' {
            field.push(b);
            continue;
        }
        let Some(&c) = line.get(at) else { break };
        at += 1;
        let digits = |from: usize, most: usize, radix: u32| {
            let is = |b: &&u8| char::from(**b).is_digit(radix);
            let digits: Vec<u8> = line[from.min(line.len())..].iter().take(most).take_while(is).copied().collect();
            let value = digits.iter().fold(0, |v, d| v * radix + char::from(*d).to_digit(radix).unwrap());
            (digits.len(), (value & 0xff) as u8)
        };
        match c {
            b'0'..=b'7' => {
                let (len, value) = digits(at - 1, 3, 8);
                at += len - 1;
                field.push(value);
            }
            b'x' => match digits(at, 2, 16) {
                (0, _) => field.push(b'x'),
                (len, value) => {
                    at += len;
                    field.push(value);
                }
            },
            b'b' | b'f' | b'n' | b'r' | b't' | b'v' => field.push(b' '),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

fn csv_fields(delimiter: u8, quote: u8, escape: u8, line: &[u8]) -> Vec<Vec<u8>> {
    let (mut fields, mut field, mut at, mut in_quote) = (Vec::new(), Vec::new(), 0, false);
    while let Some(&b) = line.get(at) {
        at += 1;
        match (in_quote, line.get(at)) {
            (false, _) if b == delimiter => fields.push(std::mem::take(&mut field)),
            (false, _) if b == quote => in_quote = true,
            (true, Some(&next)) if b == escape && (next == escape || next == quote) => {
                field.push(next);
                at += 1;
            }
            (true, _) if b == quote => in_quote = false,
            _ => field.push(b),
        }
    }
    fields.push(field);
    fields
}

fn scan(layout: &Layout, chunks: &[&[u8]]) -> bool {
    let mut scanner = Scanner::new(Arc::new(layout.clone()));
    for chunk in chunks {
        scanner.feed(chunk);
    }
    scanner.finish()
}

fn text(columns: &[Watch]) -> Layout {
    Layout { delimiter: b'\t', csv: None, header: false, columns: columns.to_vec() }
}

fn csv(columns: &[Watch]) -> Layout {
    Layout { delimiter: b',', csv: Some((b'"', b'"')), ..text(columns) }
}

#[test]
fn words_are_found_in_watched_columns_only() {
    let layout = text(&[Watch::No, Watch::Plain, Watch::No]);
    for hit in [
        "1\tnow\t\n",
        "1\tNOW",
        "1\t\\N\tx\n2\tyesterday 04:05\tx\n",
        "1\t today\\t\n",
        "1\tn\\157w\n",
        "1\t\\x6eow",
        "1\tno\\167",
        "1\ttom\\orrow\n",
        "1\t2020-02-02\r\n1\ttomorrow\r\n",
        "1\ta\r2\tnow\r",
        "1\\\n2\tnow\n",
        "now\ttoday04:05\n",
        "1\tabc,now+1\n",
        "\n\tnow",
    ] {
        assert!(scan(&layout, &[hit.as_bytes()]), "{hit:?}");
        assert!(reference(&layout, hit.as_bytes()), "{hit:?}");
    }
    for miss in
        ["now\t\tnow\n", "1\tknow nowhere\n", "1\\\tnow\tx", "1\tn ow\n", "", "1\tyesterda\n", "1\ttomorrowyesterday"]
    {
        assert!(!scan(&layout, &[miss.as_bytes()]), "{miss:?}");
        assert!(!reference(&layout, miss.as_bytes()), "{miss:?}");
    }
}

#[test]
fn csv_has_quotes_and_lines_within_them() {
    let layout = csv(&[Watch::No, Watch::Plain]);
    for hit in
        ["1,now", "\"a,b\n\"\"c\",\"now\"\n", "1,n\"ow\"", "1,\"a\"\"now\"", "\"\"\"\",today", "1,x\n\"2\",now\n"]
    {
        assert!(scan(&layout, &[hit.as_bytes()]), "{hit:?}");
    }
    for miss in ["\"1,now\",x\n", "now,\"kn\"ow", "1,\\N", "\"\n,now\n\",x"] {
        assert!(!scan(&layout, &[miss.as_bytes()]), "{miss:?}");
    }
    let names = Layout { header: true, ..layout.clone() };
    assert!(!scan(&names, &[b"at,\"now\n\"\n1,2020-02-02\n"]));
    assert!(scan(&names, &[b"at,now\n1,now\n"]));
    let other = Layout { csv: Some((b'\'', b'\\')), delimiter: b'n', ..layout };
    assert!(scan(&other, &[b"'\\'n'n'n'ow'"]));
    assert!(!scan(&other, &[b"'\\'n'now"]));
}

#[test]
fn arrays_have_quotes_of_their_own() {
    let layout = csv(&[Watch::Quoted]);
    for hit in ["\"{2020-01-01,\"\"now\"\"}\"", "\"{n\\ow}\"", "[today;)", "{on\\now}"] {
        assert!(scan(&layout, &[hit.as_bytes()]), "{hit:?}");
    }
    assert!(!scan(&layout, &[b"{know,nowhere}"]));
}

#[test]
fn a_marker_for_null_may_be_such_a_word() {
    assert!(text(&[]).finds(b"now") && text(&[]).finds(b"{\"Today\"}"));
    assert!(!text(&[]).finds(b"\\N") && !csv(&[]).finds(b"") && !csv(&[]).finds(b"unknown"));
}

fn layouts() -> impl Strategy<Value = Layout> {
    let watch = prop::sample::select(vec![Watch::No, Watch::Plain, Watch::Quoted]);
    let csv = prop::sample::select(vec![None, None, Some((b'"', b'"')), Some((b'"', b'\\')), Some((b'o', b'w'))]);
    let delimiter = prop::sample::select(vec![b'\t', b',', b'N', b'A']);
    (delimiter, csv, any::<bool>(), prop::collection::vec(watch, 1..4))
        .prop_map(|(delimiter, csv, header, columns)| Layout { delimiter, csv, header, columns })
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    let bits = [
        "now",
        "today",
        "tomorrow",
        "Yesterday",
        "n",
        "o",
        "w",
        "W",
        "\t",
        ",",
        "N",
        "A",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "\\",
        "\"",
        "\"\"",
        "\\156",
        "\\x6F",
        "\\x",
        "\\x4",
        "7",
        "x",
        " ",
        "{",
        "é",
        "\\N",
        "2020-02-02",
    ];
    prop::collection::vec(prop::sample::select(bits.to_vec()), 0..24).prop_map(|bits| bits.concat().into_bytes())
}

/// Data that the server would refuse: both sorts of line ends, quotes that do not end.
fn refused(layout: &Layout, data: &[u8]) -> bool {
    let whole = [data, b"\n"].concat();
    layout.csv.is_some_and(|_| lines(layout, &whole).last().is_some_and(|line| !line.is_empty()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_chunks_give_what_the_whole_gives(
        layout in layouts(),
        data in data(),
        cuts in prop::collection::vec(1usize..9, 1..20),
    ) {
        let whole = scan(&layout, &[&data]);
        let (mut chunks, mut rest) = (Vec::new(), &data[..]);
        for cut in cuts.iter().cycle() {
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = tail;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(scan(&layout, &chunks), whole);
        // More may be found than there is, where two readings of a value's own quotes are mixed; never less.
        let plain = !layout.columns.contains(&Watch::Quoted);
        if !refused(&layout, &data) {
            let found = reference(&layout, &data);
            prop_assert!(whole || !found);
            prop_assert!(!plain || whole == found);
        }
    }
}
