//! Cases: pages of ranges, forwards and in reverse, at the edges and through own writes.
//!
//! `more` may be true although nothing follows; it is false only when nothing does.

use crate::subject::Subject;
use bytes::Bytes;
use triggers_store::kv::{KeyRange, Page, RangeRead, Transaction};

/// Puts one pair per letter, with the letter as its value.
async fn letters(subject: &Subject, letters: &str) {
    let write = async |open: &mut dyn Transaction| {
        for letter in letters.chars().map(String::from) {
            open.set(&subject.key(&letter), letter.as_bytes());
        }
    };
    subject.commit(write).await.unwrap();
}

/// The values of a page, concatenated.
fn values(page: &Page) -> String {
    let values = page.pairs.iter().flat_map(|(_, value)| value.to_vec());
    String::from_utf8(values.collect()).unwrap()
}

async fn page(subject: &Subject, read: RangeRead) -> Page {
    subject.begin().await.range(read).await.unwrap()
}

pub async fn empty_and_inverted(subject: &Subject) {
    letters(subject, "abc").await;
    let mut open = subject.begin().await;
    open.set(&subject.key("bb"), b"own");
    for range in [
        subject.range("b", "b"),
        subject.range("c", "a"),
        subject.range("d", "x"),
        KeyRange::new(subject.key("a"), ""),
        KeyRange::new("", ""),
    ] {
        let first = RangeRead::first(range.clone(), 10);
        assert_eq!(open.range(first).await.unwrap(), Page::default());
        let last = RangeRead::last(range.clone(), 10);
        assert_eq!(open.range_snapshot(last).await.unwrap(), Page::default());
        open.add_conflict(range).await.unwrap();
    }
    open.clear_range(subject.range("c", "a"));
    open.clear_range(subject.range("b", "b"));
    open.commit().await.unwrap();
    assert_eq!(subject.pairs().await.len(), 4);
}

pub async fn from_the_empty_key(subject: &Subject) {
    letters(subject, "ab").await;
    let range = KeyRange::new("", subject.key("b"));
    let last = page(subject, RangeRead::last(range.clone(), 1)).await;
    assert_eq!(values(&last), "a");
    let first = page(subject, RangeRead::first(range, 1)).await;
    assert_eq!(first.pairs.len(), 1);
    let mut open = subject.begin().await;
    let below_all = KeyRange::new("", "\0");
    open.add_conflict(below_all.clone()).await.unwrap();
    open.clear_range(below_all);
    open.commit().await.unwrap();
    assert_eq!(subject.pairs().await.len(), 2);
}

pub async fn prefix_of_0xff(subject: &Subject) {
    let names: [&[u8]; 5] = [b"\xfe", b"\xfe\xff", b"\xff", b"\xff\xff", b"\xff\xff\x01"];
    for name in names {
        subject.put(name, name).await;
    }
    for (prefix, matching) in [(&b"\xff"[..], 3), (b"\xff\xff", 2), (b"\xfe", 2), (b"", 5)] {
        let range = KeyRange::prefix(subject.key(prefix));
        let forwards = page(subject, RangeRead::first(range.clone(), 10)).await;
        assert_eq!(forwards.pairs.len(), matching, "{prefix:?}");
        let mut backwards = page(subject, RangeRead::last(range, 10)).await;
        backwards.pairs.reverse();
        assert_eq!(backwards.pairs, forwards.pairs);
    }
}

pub async fn limit_and_more(subject: &Subject) {
    letters(subject, "abcde").await;
    let of = |begin: &str, limit| RangeRead::first(subject.range(begin, "z"), limit);
    let two = page(subject, of("a", 2)).await;
    assert_eq!((values(&two), two.has_more), ("ab".into(), true));
    let exact = page(subject, of("a", 5)).await;
    assert_eq!(values(&exact), "abcde");
    assert_eq!(page(subject, of("f", 5)).await, Page::default());
    let ample = page(subject, of("a", 6)).await;
    assert_eq!((values(&ample), ample.has_more), ("abcde".into(), false));
    let inside = RangeRead::first(subject.range("b", "d"), 9);
    assert_eq!(values(&page(subject, inside).await), "bc");
}

pub async fn reverse(subject: &Subject) {
    letters(subject, "abcde").await;
    let of = |end: &str, limit| RangeRead::last(subject.range("a", end), limit);
    let two = page(subject, of("e", 2)).await;
    assert_eq!((values(&two), two.has_more), ("dc".into(), true));
    let all = page(subject, of("z", 9)).await;
    assert_eq!((values(&all), all.has_more), ("edcba".into(), false));
    let whole = page(subject, RangeRead::last(subject.all(), 9)).await;
    assert_eq!(values(&whole), "edcba");
    let one = page(subject, of("b", 9)).await;
    assert_eq!((values(&one), one.has_more), ("a".into(), false));
}

pub async fn limit_of_zero(subject: &Subject) {
    letters(subject, "ab").await;
    let read = RangeRead { range: subject.all(), limit: 0, is_reverse: false };
    let page = page(subject, read).await;
    assert_eq!((values(&page), page.has_more), ("a".into(), true));
}

pub async fn own_writes_merged(subject: &Subject) {
    letters(subject, "aceg").await;
    let mut open = subject.begin().await;
    open.set(&subject.key("b"), b"b");
    open.clear(&subject.key("c"));
    open.set(&subject.key("e"), b"E");
    open.set(&subject.key("h"), b"h");
    open.clear(&subject.key("x"));
    for (limit, forwards, backwards) in
        [(9, "abEgh", "hgEba"), (2, "ab", "hg"), (4, "abEg", "hgEb")]
    {
        let first = RangeRead::first(subject.all(), limit);
        assert_eq!(values(&open.range(first).await.unwrap()), forwards);
        let last = RangeRead::last(subject.all(), limit);
        assert_eq!(values(&open.range(last).await.unwrap()), backwards);
    }
    open.commit().await.unwrap();
    let after = page(subject, RangeRead::first(subject.all(), 9)).await;
    assert_eq!(values(&after), "abEgh");
}

pub async fn cleared_range_inside(subject: &Subject) {
    letters(subject, "abcdefg").await;
    let mut open = subject.begin().await;
    open.set(&subject.key("bb"), b"gone");
    open.clear_range(subject.range("b", "f"));
    open.set(&subject.key("d"), b"D");
    open.clear_range(subject.range("a", "aa"));
    for read in [RangeRead::first, RangeRead::last] {
        let mut page = open.range(read(subject.all(), 9)).await.unwrap();
        page.pairs.sort();
        assert_eq!(values(&page), "Dfg");
    }
    let one = open.range(RangeRead::first(subject.all(), 1)).await.unwrap();
    assert_eq!((values(&one), one.has_more), ("D".into(), true));
    open.commit().await.unwrap();
    let after = page(subject, RangeRead::first(subject.all(), 9)).await;
    assert_eq!(values(&after), "Dfg");
}

pub async fn all_but_the_last_cleared(subject: &Subject) {
    letters(subject, "abcdefghij").await;
    let mut open = subject.begin().await;
    open.clear_range(subject.range("a", "f"));
    for letter in ["f", "g", "h", "i"] {
        open.clear(&subject.key(letter));
    }
    let first = open.range(RangeRead::first(subject.all(), 1)).await.unwrap();
    assert_eq!(values(&first), "j");
    open.clear(&subject.key("j"));
    let none = open.range(RangeRead::last(subject.all(), 1)).await.unwrap();
    assert_eq!(none, Page::default());
}

pub async fn page_bytes(subject: &Subject) {
    let value = Bytes::from(vec![7; 90_000]);
    let write = async |open: &mut dyn Transaction| {
        for number in 0..60 {
            open.set(&subject.key(format!("{number:02}")), &value);
        }
    };
    subject.commit(write).await.unwrap();
    for read in [RangeRead::first, RangeRead::last] {
        let page = page(subject, read(subject.all(), 1_000)).await;
        assert!(page.has_more && page.pairs.len() < 60, "a page holds 4 MiB, about");
    }
    let pairs = subject.pairs().await;
    assert_eq!(pairs.len(), 60);
    assert!(pairs.iter().all(|(_, found)| *found == value));
}
