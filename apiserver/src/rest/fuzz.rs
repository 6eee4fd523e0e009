//! Fuzzing of what only this face reads: paths, queries, headers, frames.

use super::query::Query;
use super::{media, path, proxy};
use crate::fuzz::{Diet, feed, feed_text};
use crate::rest::streams::spdy::{Decoder, Frame};
use http::{HeaderMap, HeaderValue, header};
use std::io::Cursor;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

const PATHS: Diet = Diet {
    seeds: &[
        b"/api/v1/namespaces/a/pods/p/proxy/x/../%2e%2e//y%",
        b"/apis/apps/v1/watch/namespaces/a/deployments/d/scale",
        b"/api/v1/nodes/https:n:10250/proxy",
        b"//api///v1//pods",
        b"https:web:443",
    ],
    words: &["/", "//", "%2F", "%", "%00", "proxy", "/proxy/", "namespaces", ":", "watch"],
};

#[test]
fn fuzz_paths() {
    feed_text(PATHS, |text| {
        let _ = proxy::target::parse(text);
        let Some(place) = path::parse(text) else { return };
        if !place.subresource.is_empty() {
            let (prefix, suffix) = path::behind(text, &place).expect("a subresource has its place");
            assert_eq!(format!("{prefix}{suffix}"), text);
            let again = path::parse(prefix).expect("the same");
            assert_eq!((again.name, again.subresource, again.rest.len()), (place.name, place.subresource, 0));
        }
    });
}

const QUERIES: Diet = Diet {
    seeds: &[
        b"watch=true&resourceVersion=5&timeoutSeconds=30&allowWatchBookmarks=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        b"limit=500&continue=abc&labelSelector=a%3Db&fieldSelector=metadata.name%3Dx",
        b"dryRun=All&fieldManager=m&fieldValidation=Strict&force=true&gracePeriodSeconds=-1&propagationPolicy=Orphan&orphanDependents=false",
        b"ports=80,81&ports=82&command=a&command=%00&stdin",
    ],
    words: &["&", "=", "%", "%zz", "+", "limit=-1", "timeoutSeconds=99999999999999999999", "9223372036854775807", ";"],
};

#[test]
fn fuzz_queries() {
    feed_text(QUERIES, |text| {
        let query = Query::parse(Some(text));
        let (_, _, _) = (query.list(), query.watch(), query.delete());
        let (_, _) = (query.field_validation(), query.dry_run());
        let _ = query.number("timeoutSeconds");
    });
}

const HEADERS: Diet = Diet {
    seeds: &[
        b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json;q=0.5, */*",
        b"application/vnd.kubernetes.protobuf, application/yaml; q=\"1\"",
        b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ],
    words: &[";", ",", "=", "q=", "q=NaN", "q=-1", "q=1e400", "*/*", "\"", "as=Table"],
};

#[test]
fn fuzz_headers() {
    feed(HEADERS, |bytes| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.clone());
        headers.insert(header::CONTENT_TYPE, value);
        let (_, _, _) = (media::wanted(&headers), media::discovery(&headers), media::sent(&headers));
    });
}

const SPDY: Diet = Diet {
    seeds: &[
        // A stream is opened (headers compressed with the dictionary), data, an end, a ping, a reset, a farewell.
        b"\x80\x03\0\x01\0\0\0\x31\0\0\0\x01\0\0\0\0\0\0\x78\xf9\xe3\xc6\xa7\xc2\x02\xe5\x0e\x70\x3a\x2b\x29\x4a\x4d\xcc\x85\x16\x25\xac\xa9\xa0\x80\x86\x14\xcb\x45\xa0\x24\xcc\x64\x61\0\0\0\0\xff\xff",
        b"\0\0\0\x01\0\0\0\x02hi\0\0\0\x01\x01\0\0\0",
        b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x09\x80\x03\0\x03\0\0\0\x08\0\0\0\x05\0\0\0\x05\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\0",
        b"\x80\x03\0\x01\0\0\0\x1a\0\0\0\x01\0\0\0\0\0\0\x78\x01\0\x09\0\xf6\xff\0\0\0\x01\0\0\0\x01a",
    ],
    words: &["\u{0}\u{0}\u{0}", "x\u{1}", "\u{0}\u{4}\u{0}"],
};

#[test]
fn fuzz_spdy_frames() {
    feed(SPDY, |bytes| {
        let read = |pieces: usize| {
            let mut decoder = Decoder::default();
            let mut frames: Vec<Frame> = Vec::new();
            for piece in bytes.chunks(pieces) {
                decoder.feed(piece);
                loop {
                    match decoder.next() {
                        Ok(Some(frame)) => frames.push(frame),
                        Ok(None) => break,
                        Err(_) => return (frames, false),
                    }
                }
            }
            (frames, true)
        };
        assert_eq!(read(1), read(bytes.len().max(1)), "in whatever pieces it comes");
    });
}

const MESSAGES: Diet = Diet {
    seeds: &[
        b"\x82\x85\x01\x02\x03\x04\x01hgjh",
        b"\x81\x80\0\0\0\0\x88\x82\0\0\0\0\x03\xe8",
        b"\x02\x81\0\0\0\0a\x89\x80\0\0\0\0\x80\x81\0\0\0\0b",
        b"\x82\xfe\x01\0\0\0\0\0",
        b"\x82\xff\0\0\0\0\0\x10\0\0\0\0\0\0",
    ],
    words: &["\u{7f}", "\u{0}\u{0}\u{0}\u{0}"],
};

#[test]
fn fuzz_websocket_frames() {
    feed(MESSAGES, |bytes| {
        let config = Some(super::streams::limits());
        let mut socket = WebSocket::from_raw_socket(Quiet(Cursor::new(bytes.to_vec())), Role::Server, config);
        while let Ok(message) = socket.read() {
            let data = message.into_data();
            super::streams::from_base64(&data).map(super::streams::parts);
            super::streams::parts(data);
        }
    });
}

/// Says what it has, and hears nothing.
struct Quiet(Cursor<Vec<u8>>);

impl std::io::Read for Quiet {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Write for Quiet {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
