//! One stream by itself: how it ends, and what it does not let through.

use futures::FutureExt;

use super::*;

fn data(bytes: usize) -> StreamData {
    StreamData { channel: Channel::Stdin.into(), data: vec![0; bytes].into(), end: false }
}

#[test]
fn a_close_survives_the_wire() {
    for how in [Close::Done, Close::Exit(0), Close::Exit(137), Close::failed("NotFound", "no such pod")] {
        assert_eq!(Close::from(StreamClose::from(how.clone())), how);
    }
}

#[tokio::test]
async fn who_sends_more_than_the_window_is_cut_off() {
    let (frames, mut outgoing) = mpsc::channel(8);
    let (mut stream, feed) = pair(Sink::Call(frames));
    feed.data(data(INITIAL as usize));
    feed.data(data(1));
    assert!(matches!(stream.recv().await, Some(StreamEvent::Data { .. })), "what was allowed comes through");
    let Some(StreamEvent::Closed(Close::Failed { reason, .. })) = stream.recv().await else { panic!("closed") };
    assert_eq!(reason, "BadRequest");
    let sent: Vec<_> = std::iter::from_fn(|| outgoing.try_recv().ok()).collect();
    let closed = |frame: &StreamFrame| matches!(frame.body, Some(stream_frame::Body::Close(_)));
    assert!(sent.iter().any(closed), "and is told");
    assert_eq!(stream.send(Channel::Stdout, "x").await, Err(Closed));
}

#[tokio::test]
async fn reading_gives_credit_back_in_large_pieces() {
    let (frames, mut outgoing) = mpsc::channel(8);
    let (mut stream, feed) = pair(Sink::Call(frames));
    for _ in 0..8 {
        feed.data(data(MAX_DATA));
    }
    for _ in 0..8 {
        stream.recv().await.unwrap();
    }
    let mut given = Vec::new();
    while let Ok(frame) = outgoing.try_recv() {
        let Some(stream_frame::Body::Window(window)) = frame.body else { panic!("only windows") };
        given.push(window.bytes);
    }
    assert_eq!(given, [64 * 1024; 4]);
    // All of it may come again.
    feed.data(data(INITIAL as usize));
    assert!(matches!(stream.recv().now_or_never(), Some(Some(StreamEvent::Data { .. }))));
}

#[tokio::test]
async fn only_the_first_close_counts() {
    let (frames, mut outgoing) = mpsc::channel(8);
    let (stream, _feed) = pair(Sink::Call(frames));
    let (sender, _receiver) = stream.split();
    sender.close(Close::Exit(3)).await;
    sender.close(Close::Done).await;
    let Some(stream_frame::Body::Close(close)) = outgoing.recv().await.unwrap().body else { panic!("a close") };
    assert_eq!(Close::from(close), Close::Exit(3));
    assert!(outgoing.try_recv().is_err());
}

#[tokio::test]
async fn a_lost_connection_ends_it() {
    let (frames, _outgoing) = mpsc::channel(8);
    let (mut stream, feed) = pair(Sink::Call(frames));
    drop(feed);
    assert_eq!(stream.recv().await, Some(StreamEvent::Closed(Close::lost())));
}
