use super::*;
use crate::Request;

#[test]
fn a_frame_survives_the_wire() {
    let frame = Frame::new(MessageId::Request, &Request::Ping).unwrap();
    let bytes = frame.to_bytes();
    assert_eq!(Frame::read_from(&mut bytes.as_slice()).unwrap(), frame);
}
