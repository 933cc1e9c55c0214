//! Content by DATA and by BDAT, cut everywhere.

use super::*;

fn announced(body: BodyType) -> Announced {
    Announced { size: None, body, smtputf8: false }
}

fn reader(framing: Framing, rules: ContentRules) -> ContentReader {
    ContentReader::new(framing, 1_000_000, rules, announced(BodyType::SevenBit))
}

fn data(max: u64, size: Option<u64>) -> ContentReader {
    let announced = Announced { size, ..announced(BodyType::SevenBit) };
    ContentReader::new(Framing::Dots, max, ContentRules::default(), announced)
}

/// As [`ContentRules::default`], but with bare line ends repaired and everything else taken.
const LENIENT: ContentRules = ContentRules {
    bare_newlines: BareNewlines::Repair,
    nul: Permission::Accept,
    undeclared_8bit: Permission::Accept,
    long_lines: Permission::Accept,
};

/// Everything refused.
const STRICT: ContentRules = ContentRules {
    bare_newlines: BareNewlines::Reject,
    nul: Permission::Reject,
    undeclared_8bit: Permission::Reject,
    long_lines: Permission::Reject,
};

/// How much of `input` was read, cut into pieces of `piece` octets, and the content or the refusal's text.
fn read(rules: ContentRules, input: &[u8], piece: usize) -> (usize, Option<Result<Vec<u8>, String>>) {
    let mut reader = reader(Framing::Dots, rules);
    let mut taken = 0;
    for piece in input.chunks(piece) {
        taken += reader.read(piece);
        if reader.has_ended() {
            return (taken, Some(end(reader)));
        }
    }
    (taken, None)
}

fn end(reader: ContentReader) -> Result<Vec<u8>, String> {
    let text = |reply: Reply| reply.lines()[0].split_once(' ').expect("a status and a text").1.to_owned();
    reader.finish().map(|(content, ..)| content.to_bytes().to_vec()).map_err(text)
}

#[test]
fn ends_at_the_true_end_only_and_takes_the_stuffing_out() {
    for (input, expected) in [
        (&b".\r\n"[..], Some(&b""[..])),
        (b"a\r\n.\r\n", Some(b"a\r\n")),
        (b"a\r\n..\r\n.\r\n", Some(b"a\r\n.\r\n")),
        (b"..a\r\n.b\r\n...\r\n.\r\n", Some(b".a\r\nb\r\n..\r\n")),
        (b"a.\r\n.\r\n", Some(b"a.\r\n")),
        (b"\r\n\r\n.\r\n", Some(b"\r\n\r\n")),
        (b"\x01\xff\r\n.\r\n", Some(b"\x01\xff\r\n")),
        (b"a\r\n.", None),
        (b"a\r\n.\r", None),
        (b"a\r\n. \r\n", None),
    ] {
        for piece in 1..=input.len() {
            let (taken, content) = read(ContentRules::default(), input, piece);
            assert_eq!(taken, input.len());
            assert_eq!(content.map(Result::unwrap).as_deref(), expected, "{input:?} by {piece}");
        }
    }
}

const SMUGGLED: &[&[u8]] = &[
    b"a\n.\nMAIL",
    b"a\n.\r\nMAIL",
    b"a\r\n.\nMAIL",
    b"a\r.\rMAIL",
    b"a\r\n.\rMAIL",
    b"a\r.\r\nMAIL",
    b"a\r\r\n.\r\r\nMAIL",
    b"a\n\r.\n\rMAIL",
    b"a\n\r\n.\n\r\nMAIL",
    b"\n.\r\nMAIL",
    b".\nMAIL",
    b".\rMAIL",
];

#[test]
fn takes_no_bare_line_end_for_an_end_and_refuses_at_the_true_one() {
    for smuggled in SMUGGLED {
        let mut input = smuggled.to_vec();
        assert_eq!(read(STRICT, &input, input.len()).1, None, "{smuggled:?} has not ended");
        input.extend_from_slice(b"\r\n.\r\n");
        let (_, whole) = read(STRICT, &input, input.len());
        let refusal = whole.unwrap().unwrap_err();
        assert!(refusal.starts_with("line ") && refusal.contains("bare "), "{refusal}");
        for piece in 1..=input.len() {
            assert_eq!(
                read(STRICT, &input, piece),
                (input.len(), Some(Err(refusal.clone()))),
                "{smuggled:?}"
            );
        }
    }
}

#[test]
fn repairs_bare_line_ends_without_ever_taking_one_for_an_end() {
    for (input, expected) in [
        (&b"a\nb\r\n.\r\n"[..], &b"a\r\nb\r\n"[..]),
        (b"a\rb\r\n.\r\n", b"a\r\nb\r\n"),
        (b"a\n.\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\n.\r\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\n..\r\nb\r\n.\r\n", b"a\r\n..\r\nb\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\r\r\n.\r\n", b"a\r\n\r\n"),
        (b"a\n\r\n.\r\n", b"a\r\n\r\n"),
        (b"a\n\r.\n\r\n.\r\n", b"a\r\n\r\n.\r\n\r\n"),
        (b"\n\r\n.\r\n", b"\r\n\r\n"),
    ] {
        for piece in 1..=input.len() {
            let (taken, content) = read(LENIENT, input, piece);
            assert_eq!(
                (taken, content.unwrap().unwrap()),
                (input.len(), expected.to_vec()),
                "{input:?} by {piece}"
            );
        }
    }
    for smuggled in SMUGGLED {
        let input = [smuggled, &b"\r\n.\r\n"[..]].concat();
        for piece in 1..=input.len() {
            let (taken, content) = read(LENIENT, &input, piece);
            let content = content.unwrap().unwrap();
            assert_eq!(taken, input.len(), "{smuggled:?}");
            assert!(Content::from(content.clone()).has_only_crlf(), "{smuggled:?} by {piece}: {content:?}");
        }
    }
}

#[test]
fn tells_the_first_fault_and_its_line_however_the_input_is_cut() {
    let long = [&[b'x'; 999][..], b"\r\n"].concat();
    for (input, expected) in [
        (b"a\r\nb\0\r\n\xff\r\n".to_vec(), "line 2 has a NUL"),
        (b"a\r\nb\xff\0\r\n".to_vec(), "line 2 has an octet above 127"),
        (b"\xff\r\n\0\r\n".to_vec(), "line 1 has an octet"),
        (b"a\r\n\r\nb\rc\0\r\n".to_vec(), "line 3 has a bare CR"),
        (b"\0\n\r\n".to_vec(), "line 1 has a NUL"),
        ([&b"a\r\n"[..], &long, b"\0\r\n"].concat(), "line 2 has more than 998"),
        ([&b"\0\r\n"[..], &long].concat(), "line 1 has a NUL"),
        ([&b"\xff"[..], &long].concat(), "line 1 has an octet"),
        ([&[b'x'; 998][..], b"\0\r\n"].concat(), "line 1 has more than 998"),
    ] {
        let input = [&input, &b".\r\n"[..]].concat();
        for piece in (1..8).chain([input.len() / 2, input.len()]) {
            let refusal = read(STRICT, &input, piece).1.unwrap().unwrap_err();
            assert!(
                refusal.starts_with(expected),
                "{:?} by {piece}: {refusal}",
                input.escape_ascii().to_string()
            );
        }
    }
    let just_fits = [&[b'x'; 998][..], b"\r\n..", &[b'x'; 997], b"\r\n.\r\n"].concat();
    for piece in [1, 7, 998, 999, 1000, 5000] {
        assert!(read(STRICT, &just_fits, piece).1.unwrap().is_ok());
    }
}

#[test]
fn undeclared_content_of_eight_bits_stays_undeclared_and_is_told() {
    let taken = |body, smtputf8, input: &[u8]| {
        let announced = Announced { size: None, body, smtputf8 };
        let mut reader = ContentReader::new(Framing::Dots, 1000, ContentRules::default(), announced);
        reader.read(input);
        let (_, body, changes) = reader.finish().unwrap();
        (body, changes.undeclared_8bit)
    };
    let (ascii, eight) = (b"a\r\n.\r\n", b"\xc3\xa9\r\n.\r\n");
    assert_eq!(taken(BodyType::SevenBit, false, ascii), (BodyType::SevenBit, false));
    assert_eq!(taken(BodyType::SevenBit, false, eight), (BodyType::SevenBit, true));
    assert_eq!(taken(BodyType::SevenBit, true, eight), (BodyType::EightBitMime, false));
    assert_eq!(taken(BodyType::EightBitMime, false, eight), (BodyType::EightBitMime, false));
}

#[test]
fn chunks_have_no_dots_and_obey_the_same_rules_unless_they_are_binary() {
    let input = b".a\r\n.\r\n..\r\nend";
    for piece in 1..=input.len() {
        let mut reader = reader(Framing::Chunks, STRICT);
        assert_eq!(input.chunks(piece).map(|piece| reader.read(piece)).sum::<usize>(), input.len());
        assert!(!reader.has_ended());
        assert_eq!(end(reader).unwrap(), input);
    }
    let mut bare = reader(Framing::Chunks, STRICT);
    bare.read(b"a\r");
    assert_eq!(bare.refusal(), None, "an LF may follow");
    assert!(end(bare).unwrap_err().contains("bare CR"));
    let mut repaired = reader(Framing::Chunks, LENIENT);
    repaired.read(b"a\nb\r");
    assert_eq!(end(repaired).unwrap(), b"a\r\nb\r\n");
    let mut binary = ContentReader::new(Framing::Chunks, 1000, STRICT, announced(BodyType::BinaryMime));
    binary.read(b"\0\r\n.\r\n\n\r\xff");
    assert_eq!(end(binary).unwrap(), b"\0\r\n.\r\n\n\r\xff");
}

#[test]
fn leaves_what_comes_after_the_end() {
    assert_eq!(read(STRICT, b"a\r\n.\r\nQUIT\r\n", 100).0, 6);
}

#[test]
fn keeps_nothing_of_what_is_refused() {
    let mut reader = data(10, Some(u64::MAX));
    reader.read(b"0123456789");
    assert!(reader.kept.held() >= 10);
    reader.read(b"0\r\n");
    assert_eq!((reader.kept.held(), reader.length()), (0, 13));
    reader.read(b".\r\n");
    assert_eq!(reader.finish().unwrap_err(), replies::TOO_LARGE.into());
    let mut reader = data(1000, None);
    reader.read(b"a\0");
    reader.read(&[b'x'; 100]);
    assert_eq!(reader.kept.held(), 0);
}

#[test]
fn the_limit_counts_neither_stuffing_nor_the_final_dot() {
    let mut reader = data(4, None);
    reader.read(b"..a\r\n.\r\n");
    assert_eq!(end(reader).unwrap(), b".a\r\n");
}

#[test]
fn long_content_comes_in_few_chunks() {
    let mut reader = data(u64::MAX, None);
    let line = [&[b'x'; 998][..], b"\r\n"].concat();
    for _ in 0..1000 {
        reader.read(&line);
    }
    reader.read(b".\r\n");
    let (content, ..) = reader.finish().unwrap();
    assert_eq!(content.len(), 1_000_000);
    assert!(
        content.chunks().len() < 25 && content.chunks().iter().all(|chunk| chunk.len() <= kept::CHUNK_MAX)
    );
}
