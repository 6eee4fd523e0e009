//! Kubernetes' protobuf, as other programs write it.

use crate::json::Json;
use prost::Message;
use prost::bytes::Buf;

/// Reads a message that another program may have written. Go writes a time that is not set as an
/// empty one; here it is absent, as in JSON.
pub fn decode<T: Message + Json + Default>(bytes: impl Buf) -> Result<T, prost::DecodeError> {
    let mut message = T::decode(bytes)?;
    message.normalise();
    Ok(message)
}

#[cfg(test)]
mod tests {
    use crate::corev1::Pod;

    #[test]
    fn an_empty_time_is_no_time() {
        // metadata { name: "a", creationTimestamp: {} }
        let bytes = [0x0a, 5, 0x0a, 1, b'a', 0x42, 0];
        let pod: Pod = super::decode(&bytes[..]).unwrap();
        assert_eq!(pod.metadata.name, "a");
        assert_eq!(pod.metadata.creation_timestamp, None);
    }
}
