//! Points in time: `Time` to the second, `MicroTime` to the microsecond.

use jiff::Timestamp;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};
use std::fmt;
use std::str::FromStr;

/// A point in time, to the second. Zero (1970) is what Kubernetes writes for "no time": it is
/// never shown in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    seconds: i64,
}

/// A point in time, to the microsecond, as Leases and Events hold it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroTime {
    micros: i64,
}

/// What stands where a time should, and is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: write it like 2026-01-31T15:04:05Z")]
pub struct BadTime(pub String);

impl Time {
    /// From seconds since 1970.
    pub fn from_unix(seconds: i64) -> Time {
        Time { seconds }
    }

    /// Seconds since 1970.
    pub fn unix(&self) -> i64 {
        self.seconds
    }

    /// Whether this is the zero that stands for "no time".
    pub fn is_zero(&self) -> bool {
        self.seconds == 0
    }

    /// The same for jiff; times beyond what it knows are cut to its range.
    pub fn timestamp(&self) -> Timestamp {
        let (min, max) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        Timestamp::from_second(self.seconds.clamp(min, max)).unwrap_or_default()
    }
}

impl MicroTime {
    /// From microseconds since 1970.
    pub fn from_unix_micros(micros: i64) -> MicroTime {
        MicroTime { micros }
    }

    /// Microseconds since 1970.
    pub fn unix_micros(&self) -> i64 {
        self.micros
    }

    /// Whether this is the zero that stands for "no time".
    pub fn is_zero(&self) -> bool {
        self.micros == 0
    }

    /// The same for jiff; times beyond what it knows are cut to its range.
    pub fn timestamp(&self) -> Timestamp {
        let (min, max) = (Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_microsecond());
        Timestamp::from_microsecond(self.micros.clamp(min, max)).unwrap_or_default()
    }
}

impl From<Timestamp> for Time {
    fn from(t: Timestamp) -> Time {
        Time { seconds: t.as_microsecond().div_euclid(1_000_000) }
    }
}

impl From<Time> for Timestamp {
    fn from(t: Time) -> Timestamp {
        t.timestamp()
    }
}

impl From<Timestamp> for MicroTime {
    fn from(t: Timestamp) -> MicroTime {
        MicroTime { micros: t.as_microsecond() }
    }
}

impl From<MicroTime> for Timestamp {
    fn from(t: MicroTime) -> Timestamp {
        t.timestamp()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}", self.timestamp())
    }
}

impl fmt::Display for MicroTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.timestamp())
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for MicroTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// RFC 3339 alone: jiff by itself would take more.
fn parse(text: &str) -> Result<Timestamp, BadTime> {
    let bad = || BadTime(text.chars().take(64).collect());
    let shaped = matches!(text.as_bytes().get(10), Some(b'T' | b't')) && !text.contains('[');
    if !shaped {
        return Err(bad());
    }
    text.parse().map_err(|_| bad())
}

impl FromStr for Time {
    type Err = BadTime;
    fn from_str(text: &str) -> Result<Time, BadTime> {
        parse(text).map(Time::from)
    }
}

impl FromStr for MicroTime {
    type Err = BadTime;
    fn from_str(text: &str) -> Result<MicroTime, BadTime> {
        parse(text).map(MicroTime::from)
    }
}

impl prost::Message for Time {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.seconds != 0 {
            encoding::int64::encode(1, &self.seconds, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        match tag {
            1 => encoding::int64::merge(wire_type, &mut self.seconds, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        if self.seconds == 0 { 0 } else { encoding::int64::encoded_len(1, &self.seconds) }
    }

    fn clear(&mut self) {
        *self = Time::default();
    }
}

impl MicroTime {
    fn parts(&self) -> (i64, i32) {
        (self.micros.div_euclid(1_000_000), (self.micros.rem_euclid(1_000_000) * 1000) as i32)
    }
}

impl prost::Message for MicroTime {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        let (seconds, nanos) = self.parts();
        if seconds != 0 {
            encoding::int64::encode(1, &seconds, buf);
        }
        if nanos != 0 {
            encoding::int32::encode(2, &nanos, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        let (mut seconds, mut nanos) = self.parts();
        match tag {
            1 => encoding::int64::merge(wire_type, &mut seconds, buf, ctx)?,
            2 => encoding::int32::merge(wire_type, &mut nanos, buf, ctx)?,
            _ => encoding::skip_field(wire_type, tag, buf, ctx)?,
        }
        self.micros = seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos).div_euclid(1000));
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        let (seconds, nanos) = self.parts();
        let seconds = if seconds == 0 { 0 } else { encoding::int64::encoded_len(1, &seconds) };
        seconds + if nanos == 0 { 0 } else { encoding::int32::encoded_len(2, &nanos) }
    }

    fn clear(&mut self) {
        *self = MicroTime::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn reads_and_writes_rfc3339() {
        for (text, unix, canonical) in [
            ("2026-01-31T15:04:05Z", 1769871845, "2026-01-31T15:04:05Z"),
            ("2026-01-31T17:04:05+02:00", 1769871845, "2026-01-31T15:04:05Z"),
            ("2026-01-31T15:04:05.999Z", 1769871845, "2026-01-31T15:04:05Z"),
            ("1969-12-31T23:59:59Z", -1, "1969-12-31T23:59:59Z"),
            ("1969-12-31T23:59:59.5Z", -1, "1969-12-31T23:59:59Z"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!((time.unix(), time.to_string().as_str()), (unix, canonical), "{text}");
        }
        let micro: MicroTime = "2026-01-31T15:04:05.5Z".parse().unwrap();
        assert_eq!(micro.to_string(), "2026-01-31T15:04:05.500000Z");
    }

    #[test]
    fn refuses_what_is_no_rfc3339() {
        for text in [
            "",
            "yesterday",
            "2026-01-31",
            "2026-01-31 15:04:05Z",
            "2026-01-31T15:04:05",
            "2026-01-31T15:04:05+02:00[Europe/Rome]",
            "2026-02-30T00:00:00Z",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn micro_time_before_1970_survives_protobuf() {
        for micros in [-1, -1_000_001, 0, 1, 1_769_871_845_123_456] {
            let time = MicroTime::from_unix_micros(micros);
            assert_eq!(MicroTime::decode(time.encode_to_vec().as_slice()).unwrap(), time);
            assert_eq!(time.encoded_len(), time.encode_to_vec().len());
        }
    }
}
