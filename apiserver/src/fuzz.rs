//! Bytes that nobody would send on purpose, for every decoder that reads what clients send. A target takes mutants of
//! good inputs and of bad ones that were found before; it must not panic, and what it has read it must read again from
//! what it writes. In the suite the targets run for a moment, with `make fuzz` for as long as one likes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestError, TestRunner};

/// How many mutants a target sees in the suite.
const CASES: u32 = 400;

/// A change to an input.
#[derive(Clone, Debug)]
enum Edit {
    /// A byte is another.
    Set(Index, u8),
    /// A bit is turned.
    Flip(Index, u8),
    /// Bytes that were not there.
    Insert(Index, Vec<u8>),
    /// A word of the format.
    Word(Index, Index),
    /// Bytes are gone.
    Cut(Index, u8),
    /// A piece comes again, many times.
    Repeat(Index, u8, u8),
    /// It goes on as another input does.
    Splice(Index, Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), vec(any::<u8>(), 1..5)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at(), at()).prop_map(|(at, word)| Edit::Word(at, word)),
        (at(), any::<u8>()).prop_map(|(at, length)| Edit::Cut(at, length)),
        (at(), any::<u8>(), any::<u8>()).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        (at(), at(), at()).prop_map(|(at, other, from)| Edit::Splice(at, other, from)),
    ]
}

/// What a target is given to begin with.
#[derive(Clone, Copy, Debug)]
pub struct Diet {
    /// Good inputs.
    pub seeds: &'static [&'static [u8]],
    /// What means something in the format.
    pub words: &'static [&'static str],
}

fn change(diet: &Diet, bytes: &mut Vec<u8>, edit: &Edit) {
    let place = |at: &Index, bytes: &Vec<u8>| at.index(bytes.len() + 1);
    match edit {
        Edit::Set(at, byte) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Edit::Flip(at, bit) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Edit::Set(..) | Edit::Flip(..) => {}
        Edit::Insert(at, more) => {
            let at = place(at, bytes);
            bytes.splice(at..at, more.iter().copied());
        }
        Edit::Word(at, word) => {
            let at = place(at, bytes);
            if !diet.words.is_empty() {
                bytes.splice(at..at, diet.words[word.index(diet.words.len())].bytes());
            }
        }
        Edit::Cut(at, length) => {
            let at = place(at, bytes);
            let end = bytes.len().min(at + usize::from(*length));
            bytes.drain(at..end);
        }
        Edit::Repeat(at, length, times) => {
            let at = place(at, bytes);
            let end = bytes.len().min(at + usize::from(*length) + 1);
            let piece = bytes[at..end].repeat(usize::from(*times));
            bytes.splice(at..at, piece);
        }
        Edit::Splice(at, other, from) => {
            let at = place(at, bytes);
            bytes.truncate(at);
            let other = diet.seeds[other.index(diet.seeds.len())];
            bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
        }
    }
}

/// Gives a target mutants of its diet.
pub fn feed(diet: Diet, target: impl Fn(&[u8])) {
    let mutant = (any::<Index>(), vec(edit(), 0..6)).prop_map(move |(seed, edits)| {
        let mut bytes = diet.seeds[seed.index(diet.seeds.len())].to_vec();
        for edit in &edits {
            change(&diet, &mut bytes, edit);
        }
        bytes
    });
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = asked.unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let ran = TestRunner::new(config).run(&mutant, |bytes| {
        target(&bytes);
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(why, bytes)) => panic!("{why}\nfor {} ({bytes:?})", bytes.escape_ascii()),
        Err(error) => panic!("{error}"),
    }
}

/// The same for what is text.
pub fn feed_text(diet: Diet, target: impl Fn(&str)) {
    feed(diet, |bytes| target(&String::from_utf8_lossy(bytes)));
}

mod documents {
    //! JSON, YAML and protobuf, and what is made of them.

    use super::{Diet, feed, feed_text};
    use bytes::Bytes;
    use serde_json::Value;
    use skiff_proto::json::{self, Json, Strictness};
    use skiff_proto::{Kind, Quantity, apply, appsv1, corev1, fields, labels, merge, yaml};

    const JSON: Diet = Diet {
        seeds: &[
            br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"a":"b"},"creationTimestamp":"2024-01-01T00:00:00Z"},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}],"resources":{"requests":{"cpu":"1500m","memory":"1Gi"}},"livenessProbe":{"httpGet":{"path":"/","port":"http"}}}]}}"#,
            br#"{"metadata":{"name":"d","managedFields":[{"manager":"m","operation":"Apply","fieldsV1":{"f:spec":{"f:replicas":{}}}}]},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"}},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"template":{"metadata":{},"spec":{"volumes":[{"name":"v","emptyDir":{}}],"containers":[]}}}}"#,
            br#"{"data":{"k":"v"},"binaryData":{"b":"AAEC"},"immutable":true,"metadata":{"name":"m","ownerReferences":[{"uid":"u","controller":true}]}}"#,
            b"[1,-2,3.5e10,true,false,null,\"\\u00e9\\n\"]",
            b"18446744073709551616",
        ],
        words: &["{", "}", "[", "]", ":", ",", "null", "\"metadata\":", "\"name\":", "1e999", "-0", "\"\\ud800\"", "9223372036854775808"],
    };

    const YAML: Diet = Diet {
        seeds: &[
            b"apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: 'b'}}\nspec:\n  containers:\n  - name: c\n    image: \"i\"\n    args: [a, \"b\", 'c']\n",
            b"a: &a [1, 2]\nb: *a\nc: {<<: {x: y}, z: ~}\n---\nd: |\n  text\n  more\ne: >-\n  folded\n  text\nf: 0x1F\ng: 1_000\nh: 1e3\n",
            b"- yes\n- off\n- .inf\n- -.nan\n- 012\n- 1:30\n- !!str 5\n- !!binary aGk=\n- 2024-01-01\n- '#'\n- \"\\x41\\u00e9\"\n",
            b"? a\n: b\n? [c]\n: d\n",
            b"%YAML 1.1\n---\n# nothing\n...\n",
        ],
        words: &["---\n", "...\n", "- ", ": ", "&a ", "*a", "<<: *a\n", "!!str ", "|\n  ", ">-\n ", "\t", "'", "\"", "{", "}", "[", "]", "#", "? ", "\r", "\u{feff}", "\u{85}"],
    };

    /// What is read is read again, the same, from what is written of it.
    fn again<T: Json + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        let Ok((read, _)) = json::decode::<T>(bytes, Strictness::Warn) else { return };
        let written = json::encode(&read);
        let (second, problems) = json::decode::<T>(&written, Strictness::Strict).expect("our own JSON");
        assert_eq!(second, read, "{}", String::from_utf8_lossy(&written));
        assert!(problems.is_empty());
    }

    #[test]
    fn fuzz_json() {
        feed(JSON, |bytes| {
            again::<corev1::Pod>(bytes);
            again::<appsv1::Deployment>(bytes);
            again::<corev1::ConfigMap>(bytes);
        });
    }

    #[test]
    fn fuzz_yaml() {
        feed_text(YAML, |text| {
            let Ok(documents) = yaml::parse_documents(text, &yaml::Limits::default()) else { return };
            for document in documents {
                let tree = document.to_json();
                let written = yaml::write(&tree);
                let second = yaml::parse_documents(&written, &yaml::Limits::default()).expect("our own YAML");
                assert_eq!(second.first().map(yaml::Document::to_json).unwrap_or_default(), tree, "{written}");
                let _ = document.decode::<corev1::Pod>(Strictness::Warn);
                let _ = document.check("apps", "v1", "Deployment");
            }
        });
    }

    /// `k8s\0`, a type, and a Pod with a name and a container.
    const SEALED: &[u8] = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x17\x0a\x03\x0a\x01p\x12\x10\x12\x0e\x0a\x01c\x12\x05image\x3a\x02/x\x1a\0\"\0";

    const PROTOBUF: Diet = Diet {
        seeds: &[
            SEALED,
            b"\x0a\x05\x0a\x01p\x42\x00\x12\x06\x12\x04\x0a\x02cc",
            b"\x0a\x0a\x42\x08\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"k8s\0",
        ],
        words: &["\u{0}", "\n\u{1}p", "k8s\u{0}", "\u{12}\u{2}\n\u{0}"],
    };

    /// A message that is read can be written as JSON, and read from that.
    fn both<K: Kind + Json>(raw: &[u8]) {
        let Ok(read) = skiff_proto::protobuf::decode::<K>(raw) else { return };
        let _ = read.encode_to_vec();
        let written = json::encode(&read);
        let _: Value = serde_json::from_slice(&written).expect("JSON");
        let _ = json::decode::<K>(&written, Strictness::Strict);
    }

    #[test]
    fn fuzz_protobuf() {
        feed(PROTOBUF, |bytes| {
            let body = Bytes::copy_from_slice(bytes);
            let raw = crate::rest::open_sealed(&body).unwrap_or(body);
            both::<corev1::Pod>(&raw);
            both::<appsv1::Deployment>(&raw);
            both::<corev1::Secret>(&raw);
        });
    }

    const PATCHES: Diet = Diet {
        seeds: &[
            br#"[{"op":"add","path":"/metadata/labels/a~1b","value":"c"},{"op":"test","path":"/spec/containers/0/name","value":"c"},{"op":"remove","path":"/spec/containers/0"},{"op":"copy","from":"/metadata","path":"/spec/x"},{"op":"move","from":"/metadata/labels","path":"/metadata/annotations"},{"op":"replace","path":"","value":{}}]"#,
            br#"[{"op":"add","path":"/spec/containers/-","value":{}},{"op":"copy","from":"/spec/containers","path":"/spec/containers/-"}]"#,
            br#"{"metadata":{"labels":{"a":null}},"spec":{"containers":[{"name":"c","image":"x"},{"$patch":"delete","name":"d"}],"$setElementOrder/containers":[{"name":"d"},{"name":"c"}]}}"#,
            br#"{"spec":{"$retainKeys":["containers"],"containers":[{"$patch":"replace"},{"name":"z","ports":[{"containerPort":80,"$patch":"delete"}]}],"$deleteFromPrimitiveList/finalizers":["x"],"template":{"$patch":"replace"}}}"#,
            br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","finalizers":["a","b"]},"spec":{"containers":[{"name":"c","env":[{"name":"e","value":"v"}],"ports":[{"containerPort":80,"protocol":"TCP"}]}]}}"#,
        ],
        words: &["\"$patch\":", "\"$setElementOrder/containers\":", "\"$deleteFromPrimitiveList/x\":", "null", "{", "}", "[", "]", "\"name\":\"c\"", "/-", "~1", "~", "/0", "\"from\":\"\","],
    };

    #[test]
    fn fuzz_patches() {
        let object: Value = serde_json::from_slice(PATCHES.seeds[4]).expect("JSON");
        let schema = skiff_proto::schema::for_kind("", "v1", "Pod").expect("a Schema");
        feed(PATCHES, |bytes| {
            let Ok(patch) = serde_json::from_slice::<Value>(bytes) else { return };
            let mut document = object.clone();
            let _ = crate::registry::json_patch(&mut document, &patch);
            let mut document = object.clone();
            merge::merge_patch(&mut document, &patch);
            let mut document = object.clone();
            let _ = merge::strategic(&mut document, &patch, &schema);
            merge::three_way(&object, &patch, &document, &schema);
        });
    }

    #[test]
    fn fuzz_apply() {
        let object: Value = serde_json::from_slice(PATCHES.seeds[4]).expect("JSON");
        let schema = skiff_proto::schema::for_kind("", "v1", "Pod").expect("a Schema");
        feed(PATCHES, |bytes| {
            let Ok(configuration) = serde_json::from_slice::<Value>(bytes) else { return };
            let mut document = object.clone();
            let named = apply::fields_of(&configuration, &schema);
            if let Ok(named) = &named {
                let text = named.to_fields_v1();
                assert_eq!(apply::FieldSet::from_fields_v1(&text).as_ref(), Ok(named), "{text:?}");
                apply::merge(&mut document, &configuration, &schema);
                apply::compare(&object, &document, &schema);
                apply::remove(&mut document, named, &schema);
            }
            let raw = skiff_proto::FieldsV1 { raw: bytes.to_vec() };
            if let Ok(set) = apply::FieldSet::from_fields_v1(&raw) {
                assert_eq!(apply::FieldSet::from_fields_v1(&set.to_fields_v1()), Ok(set));
            }
        });
    }

    const SELECTORS: Diet = Diet {
        seeds: &[
            b"app=web,tier!=db,env in (a,b),!gone,there,x notin (y),n>5,m<3",
            b"metadata.name=a,spec.nodeName!=b,status.phase==Running",
            b"a.b/c==d,spec.x=a\\,b\\=c\\\\",
            b"",
        ],
        words: &["=", "==", "!=", "!", ",", "(", ")", " in ", " notin ", ">", "<", "\\", "\\,", "\u{e9}"],
    };

    #[test]
    fn fuzz_selectors() {
        feed_text(SELECTORS, |text| {
            if let Ok(selector) = labels::Selector::parse(text) {
                let written = selector.to_string();
                let second = labels::Selector::parse(&written).expect("our own selector");
                assert_eq!(second.requirements(), selector.requirements(), "{written}");
                selector.matches_with(|_| Some("5"));
            }
            let _ = fields::Selector::parse(text);
        });
    }

    const QUANTITIES: Diet = Diet {
        seeds: &[
            b"100m",
            b"1.5Gi",
            b"-2e3",
            b"1E",
            b".5",
            b"9223372036854775807",
            b"1e-9",
            b"0.000000001",
            b"12345678901234567890Ki",
        ],
        words: &["e", "E", "-", "+", ".", "Ki", "Ei", "n", "u", "m", "k", "0", "999999999999999999999"],
    };

    #[test]
    fn fuzz_quantities() {
        feed_text(QUANTITIES, |text| {
            let Ok(quantity) = Quantity::parse(text) else { return };
            let second = Quantity::parse(&quantity.to_string()).expect("our own Quantity");
            assert_eq!(second.to_string(), quantity.to_string());
            assert_eq!((second.value(), second.milli()), (quantity.value(), quantity.milli()));
            assert_eq!(second.cmp(&quantity), std::cmp::Ordering::Equal);
        });
    }
}
