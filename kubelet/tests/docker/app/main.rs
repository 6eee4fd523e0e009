//! The program that the conformance tests run in containers. It is compiled by the tests into one static file.
//!
//! ```text
//! app sleep               runs until SIGKILL, or SIGTERM as process 1's default: ignores it
//! app exit CODE           ends at once
//! app print TEXT          prints TEXT to stdout and "E:TEXT" to stderr, and ends
//! app http PORT           answers every HTTP request with its hostname
//! app get ADDRESS         connects, and prints what it is answered
//! app cat FILE...         prints files
//! app env NAME            prints a variable
//! app eat                 uses memory until it dies
//! app netns               prints its network namespace
//! ```

use std::io::{Read, Write};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sleep"] => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        ["exit", code] => std::process::exit(code.parse().expect("a code")),
        ["print", text] => {
            println!("{text}");
            eprintln!("E:{text}");
        }
        ["http", port] => serve(port.parse().expect("a port")),
        ["get", address] => get(address),
        ["cat", files @ ..] => files.iter().for_each(|file| print!("{}", std::fs::read_to_string(file).expect("a file"))),
        ["env", name] => println!("{}", std::env::var(name).unwrap_or_default()),
        ["eat"] => eat(),
        ["netns"] => println!("{}", std::fs::read_link("/proc/self/ns/net").expect("a link").display()),
        other => panic!("unknown command {other:?}"),
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string()
}

fn serve(port: u16) {
    let listener = std::net::TcpListener::bind(("0.0.0.0", port)).expect("listen");
    println!("listening on {port}");
    for stream in listener.incoming().flatten() {
        let mut stream = stream;
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap_or(0);
        let line = String::from_utf8_lossy(&request[..length]);
        let code = if line.starts_with("GET /fail") { "500 No" } else { "200 OK" };
        let body = hostname();
        let _ = write!(stream, "HTTP/1.1 {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
}

fn get(address: &str) {
    let mut stream = std::net::TcpStream::connect(address).expect("connect");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    println!("{}", answer.rsplit("\r\n\r\n").next().unwrap_or_default());
}

fn eat() {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(vec![1; 1 << 20]);
    }
}
