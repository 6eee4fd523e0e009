//! SPDY/3.1, as much of it as Kubernetes' streams use: opening streams with headers, data, ends, resets and pings. There
//! is no flow control: neither kubectl nor Kubernetes keeps to it.
//!
//! Headers come compressed, in one zlib stream for the whole connection, with a dictionary that both ends know. Ours are
//! sent in stored blocks, which need no compressor.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// The largest frame that is taken.
const FRAME: usize = 1 << 20;
/// The largest block of headers.
const HEADERS: usize = 16 * 1024;
/// How far back compressed data may refer.
const WINDOW: usize = 32 * 1024;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RESET: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const FIN: u8 = 1;

/// What the other end says.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    Open {
        /// Its number.
        stream: u32,
        /// What it is for.
        headers: Vec<(String, String)>,
    },
    /// Data of a stream, and perhaps its end.
    Data {
        /// Its number.
        stream: u32,
        /// The data.
        data: Bytes,
        /// Nothing follows.
        end: bool,
    },
    /// A stream is given up.
    Reset(u32),
    /// To be sent back.
    Ping(u32),
    /// The other end is done.
    GoAway,
    /// Nothing that matters here.
    Other,
}

/// What is said is not SPDY/3.1.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// Reads frames from bytes as they come.
#[derive(Default)]
pub struct Decoder {
    buffer: BytesMut,
    headers: Inflate,
}

impl Decoder {
    /// Takes more bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// The next frame that is whole.
    pub fn next(&mut self) -> Result<Option<Frame>, Broken> {
        let Some(head) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
        if length > FRAME {
            return Err(Broken);
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let body = self.buffer.split_to(length).freeze();
        let end = flags & FIN != 0;
        if word >> 31 == 0 {
            return Ok(Some(Frame::Data { stream: word, data: body, end }));
        }
        // Frames of unknown types are to be ignored.
        let kind = word as u16;
        self.control(kind, body).map(Some)
    }

    fn control(&mut self, kind: u16, mut body: Bytes) -> Result<Frame, Broken> {
        let mut number = || body.try_get_u32().map(|n| n & 0x7fff_ffff).map_err(|_| Broken);
        Ok(match kind {
            SYN_STREAM => {
                let (stream, _associated) = (number()?, number()?);
                if body.len() < 2 {
                    return Err(Broken);
                }
                body.advance(2);
                Frame::Open { stream, headers: pairs(&self.headers.more(&body)?)? }
            }
            RESET => Frame::Reset(number()?),
            PING => Frame::Ping(body.try_get_u32().map_err(|_| Broken)?),
            GO_AWAY => Frame::GoAway,
            _ => Frame::Other,
        })
    }
}

fn pairs(mut block: &[u8]) -> Result<Vec<(String, String)>, Broken> {
    let Some((count, rest)) = block.split_first_chunk::<4>() else { return Err(Broken) };
    block = rest;
    let mut text = || -> Result<String, Broken> {
        let length = block.try_get_u32().map_err(|_| Broken)? as usize;
        let (text, rest) = block.split_at_checked(length).ok_or(Broken)?;
        block = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    (0..u32::from_be_bytes(*count)).map(|_| Ok((text()?.to_ascii_lowercase(), text()?))).collect()
}

/// Writes frames.
#[derive(Default)]
pub struct Encoder {
    begun: bool,
}

impl Encoder {
    /// Accepts a stream, without headers.
    pub fn reply(&mut self, stream: u32) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u32(stream);
        if !std::mem::replace(&mut self.begun, true) {
            body.put_slice(&[0x78, 0x01]);
        }
        // A stored block of four zeros (no headers), and an empty one that flushes it.
        body.put_slice(&[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0]);
        body.put_slice(&[0, 0, 0, 0xff, 0xff]);
        control(SYN_REPLY, &body)
    }

    /// Data of a stream.
    pub fn data(&self, stream: u32, data: &[u8], end: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + data.len());
        out.put_u32(stream & 0x7fff_ffff);
        out.put_u8(if end { FIN } else { 0 });
        out.put_uint(data.len() as u64, 3);
        out.put_slice(data);
        out.freeze()
    }

    /// Gives a stream up: cancelled.
    pub fn reset(&self, stream: u32) -> Bytes {
        const CANCEL: u32 = 5;
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_u32(CANCEL);
        control(RESET, &body)
    }

    /// Sends a ping back.
    pub fn pong(&self, ping: u32) -> Bytes {
        control(PING, &ping.to_be_bytes())
    }
}

fn control(kind: u16, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + body.len());
    out.put_u16(0x8000 | 3);
    out.put_u16(kind);
    out.put_u32(u32::try_from(body.len()).unwrap_or(0) & 0x00ff_ffff);
    out.put_slice(body);
    out.freeze()
}

/// Decompresses one zlib stream, piece by piece.
struct Inflate {
    core: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
    begun: bool,
}

impl Default for Inflate {
    fn default() -> Self {
        Self { core: Box::default(), window: vec![0; WINDOW], at: 0, begun: false }
    }
}

impl Inflate {
    fn more(&mut self, mut input: &[u8]) -> Result<Vec<u8>, Broken> {
        if !std::mem::replace(&mut self.begun, true) {
            // The head of a zlib stream, which names the dictionary; what follows is plain deflate.
            let [_, flags, rest @ ..] = input else { return Err(Broken) };
            input = rest;
            if flags & 0x20 != 0 {
                let dictionary = dictionary();
                input = input.strip_prefix(&DICTIONARY_SUM.to_be_bytes()).ok_or(Broken)?;
                self.window[..dictionary.len()].copy_from_slice(&dictionary);
                self.at = dictionary.len();
            }
        }
        let mut out = vec![];
        loop {
            let (status, read, wrote) =
                decompress(&mut self.core, input, &mut self.window, self.at, inflate_flags::TINFL_FLAG_HAS_MORE_INPUT);
            out.extend_from_slice(&self.window[self.at..self.at + wrote]);
            self.at = (self.at + wrote) % WINDOW;
            input = &input[read..];
            if out.len() > HEADERS {
                return Err(Broken);
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput | TINFLStatus::Done => return Ok(out),
                _ => return Err(Broken),
            }
        }
    }
}

/// The Adler-32 of the dictionary: what a stream names it by.
const DICTIONARY_SUM: u32 = 0xe3c6_a7c2;

/// The dictionary of SPDY/3 (draft-mbelshe-httpbis-spdy-00, 2.6.10.1): words, each after its length, and a tail.
fn dictionary() -> Vec<u8> {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
        accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
        content-length content-location content-md5 content-range content-type date etag expect expires from host \
        if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards \
        pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding \
        upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public \
        set-cookie keep-alive origin";
    const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
        203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized\
        403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
        Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
        chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
        text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut out = vec![];
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        out.extend_from_slice(&(word.len() as u32).to_be_bytes());
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(TAIL.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `streamType: error`, `port: 80`, compressed with the dictionary by another program (Python's zlib), flushed; then
    /// the same again, which refers back to the first.
    const FIRST: &[u8] = &[
        0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0xe5, 0x0e, 0x70, 0x3a, 0x2b, 0x29, 0x4a, 0x4d, 0xcc, 0x85, 0x16,
        0x25, 0xac, 0xa9, 0xa0, 0x80, 0x86, 0x14, 0xcb, 0x45, 0xa0, 0x24, 0xcc, 0x64, 0x61, 0x00, 0x00, 0x00, 0x00,
        0xff, 0xff,
    ];
    const SECOND: &[u8] = &[0x22, 0x5a, 0x21, 0x00, 0x00, 0x00, 0xff, 0xff];

    fn open(stream: u32, block: &[u8]) -> Bytes {
        let body = [&stream.to_be_bytes()[..], &[0; 6], block].concat();
        control(SYN_STREAM, &body)
    }

    #[test]
    fn headers_are_read_across_frames_and_pieces() {
        let wanted = vec![("streamtype".to_string(), "error".to_string()), ("port".to_string(), "80".to_string())];
        let mut decoder = Decoder::default();
        let bytes = [open(1, FIRST), open(3, SECOND)].concat();
        let mut frames = vec![];
        for byte in bytes.chunks(1) {
            decoder.feed(byte);
            frames.extend(decoder.next().expect("SPDY"));
        }
        let [first, second] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(*first, Frame::Open { stream: 1, headers: wanted.clone() });
        assert_eq!(*second, Frame::Open { stream: 3, headers: wanted });
    }

    #[test]
    fn what_is_written_is_read() {
        let mut encoder = Encoder::default();
        let mut decoder = Decoder::default();
        for bytes in [
            encoder.reply(1),
            encoder.data(1, b"hello", false),
            encoder.data(1, b"", true),
            encoder.pong(7),
            encoder.reset(5),
        ] {
            decoder.feed(&bytes);
        }
        let data = |text: &'static str, end| Frame::Data { stream: 1, data: text.into(), end };
        for wanted in [Frame::Other, data("hello", false), data("", true), Frame::Ping(7), Frame::Reset(5)] {
            assert_eq!(decoder.next(), Ok(Some(wanted)));
        }
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn what_is_broken_is_refused() {
        for bytes in [
            &[0, 0, 0, 1, 0, 0xff, 0xff, 0xff][..],
            &control(SYN_STREAM, &[0, 0]),
            &open(1, &[0x78]),
            &open(1, &[0x78, 0x20, 1, 2, 3, 4]),
            &open(1, &[0x78, 0x01, 0xff, 0xff, 0xff]),
            &control(PING, &[1]),
        ] {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            assert_eq!(decoder.next(), Err(Broken), "{bytes:?}");
        }
    }

    #[test]
    fn the_dictionary_is_the_one_that_streams_name() {
        let (a, b) = dictionary().iter().fold((1, 0), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        assert_eq!(b << 16 | a, DICTIONARY_SUM);
    }
}
