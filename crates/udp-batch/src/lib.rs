//! Many UDP messages by one system call: `sendmmsg` with segmentation offload and source addresses.
//!
//! [`Batch`] is the memory in which the arguments of the call are laid out; it is kept and filled again.
//! [`dropped`] asks what a socket had no room for. This is the one place in the workspace with `unsafe`: no published
//! crate offers the first call with control messages per message, nor the second. Deliberately absent: receiving,
//! which `quinn-udp` does well, and everything that knows what the bytes mean.
//!
//! On systems other than Linux with glibc both fail with [`io::ErrorKind::Unsupported`].

use std::io;
use std::net::{IpAddr, SocketAddr};

/// One message: one datagram, or a run of them that the kernel cuts.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Where it goes.
    pub remote: SocketAddr,
    /// The address it comes from; `None` leaves the choice to the system.
    pub source: Option<IpAddr>,
    /// The datagrams, one behind the other. They may lie in two places; otherwise the second is empty.
    pub parts: [&'a [u8]; 2],
    /// The length of each datagram but the last, which may be shorter (`UDP_SEGMENT`); `None` if all is one
    /// datagram. The kernel takes at most 64 datagrams and 65,507 bytes.
    pub segment_bytes: Option<u16>,
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use linux::{Batch, dropped};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod linux {
    use super::{IpAddr, Message, io};

    use std::mem;
    use std::os::fd::{AsFd, AsRawFd};
    use std::ptr;

    use libc::{c_int, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, msghdr};
    use socket2::SockAddr;

    /// Datagrams that the system has received for `socket` and dropped since it was opened, because its buffer was
    /// full or the checksum wrong. Wraps around.
    ///
    /// # Errors
    /// What the system says; some sandboxes do not tell.
    pub fn dropped(socket: impl AsFd) -> io::Result<u32> {
        /// What `SO_MEMINFO` fills (`SK_MEMINFO_VARS`, linux/sock_diag.h).
        const LEN: usize = 9;
        /// Index of the number of drops in it (`SK_MEMINFO_DROPS`).
        const DROPS: usize = 8;
        let mut info = [0_u32; LEN];
        let whole = mem::size_of_val(&info) as libc::socklen_t;
        let mut len = whole;
        let (fd, at) = (socket.as_fd().as_raw_fd(), info.as_mut_ptr());
        // SAFETY: the kernel writes at most `len` bytes to `at`, which are those of `info`, and any are numbers. Both
        // pointers are to locals that outlive the call.
        #[expect(unsafe_code, reason = "argued above")]
        let failed = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                at.cast(),
                &raw mut len,
            )
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        if len < whole {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(info[DROPS])
    }

    /// Room for the control messages of one message: a source address and a segment length.
    const CONTROL_BYTES: usize = 64;

    #[derive(Clone, Copy)]
    #[repr(C, align(8))]
    struct Control([u8; CONTROL_BYTES]);

    /// The arguments of one call.
    pub struct Batch {
        headers: Vec<mmsghdr>,
        slices: Vec<[iovec; 2]>,
        peers: Vec<SockAddr>,
        controls: Vec<Control>,
    }

    // SAFETY: the pointers in it are followed in `send` only, which sets them all anew before.
    #[expect(unsafe_code, reason = "argued above")]
    unsafe impl Send for Batch {}

    impl Batch {
        /// Memory for batches of up to `messages` messages.
        pub fn with_capacity(messages: usize) -> Self {
            Self {
                headers: Vec::with_capacity(messages),
                slices: Vec::with_capacity(messages),
                peers: Vec::with_capacity(messages),
                controls: Vec::with_capacity(messages),
            }
        }

        /// Sends `messages` in order by one call and returns how many the system took. Takes no more than
        /// 1024 (`UIO_MAXIOV`).
        ///
        /// # Errors
        /// What the system says of the first message. An error of a later one ends the batch before it, and comes
        /// back when that one is the first.
        pub fn send<'a>(
            &mut self,
            socket: impl AsFd,
            messages: impl IntoIterator<Item = Message<'a>>,
        ) -> io::Result<usize> {
            self.headers.clear();
            self.slices.clear();
            self.peers.clear();
            self.controls.clear();
            for message in messages {
                self.add(&message);
            }
            self.link();
            let fd = socket.as_fd().as_raw_fd();
            let (first, count) = (self.headers.as_mut_ptr(), self.headers.len());
            // SAFETY: `headers` has `count` entries. `link` has just pointed each at an address, one or two slices
            // and control messages in vectors that nothing has touched since; each slice is a borrow of the
            // caller's that lives for 'a, hence until this call has returned. The kernel writes to `msg_len` of
            // the entries only.
            #[expect(unsafe_code, reason = "argued above")]
            let sent = unsafe { libc::sendmmsg(fd, first, count as libc::c_uint, 0) };
            usize::try_from(sent).map_err(|_| io::Error::last_os_error())
        }

        fn add(&mut self, message: &Message<'_>) {
            let mut control = ControlWriter::new();
            match message.source {
                Some(IpAddr::V4(ip)) => control.push(
                    libc::IPPROTO_IP,
                    libc::IP_PKTINFO,
                    in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: libc::in_addr {
                            s_addr: u32::from_ne_bytes(ip.octets()),
                        },
                        ipi_addr: libc::in_addr { s_addr: 0 },
                    },
                ),
                Some(IpAddr::V6(ip)) => control.push(
                    libc::IPPROTO_IPV6,
                    libc::IPV6_PKTINFO,
                    in6_pktinfo {
                        ipi6_addr: libc::in6_addr {
                            s6_addr: ip.octets(),
                        },
                        ipi6_ifindex: 0,
                    },
                ),
                None => {}
            }
            if let Some(bytes) = message.segment_bytes {
                control.push(libc::SOL_UDP, libc::UDP_SEGMENT, bytes);
            }
            self.peers.push(message.remote.into());
            self.slices.push(message.parts.map(|part| iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            }));
            self.controls.push(control.memory);
            let mut header = no_message();
            // The kernel takes a single slice by a shorter way.
            header.msg_iovlen = if message.parts[1].is_empty() { 1 } else { 2 };
            header.msg_controllen = control.len;
            self.headers.push(mmsghdr {
                msg_hdr: header,
                msg_len: 0,
            });
        }

        /// Points the headers at their parts, which have moved while they were added.
        fn link(&mut self) {
            let parts = self
                .peers
                .iter()
                .zip(&mut self.slices)
                .zip(&mut self.controls);
            for (header, ((peer, slices), control)) in self.headers.iter_mut().zip(parts) {
                let header = &mut header.msg_hdr;
                header.msg_name = peer.as_ptr().cast_mut().cast();
                header.msg_namelen = peer.len();
                header.msg_iov = slices.as_mut_ptr();
                if header.msg_controllen > 0 {
                    header.msg_control = control.0.as_mut_ptr().cast();
                }
            }
        }
    }

    #[expect(unsafe_code, reason = "the type has private padding on some systems")]
    fn no_message() -> msghdr {
        // SAFETY: a `msghdr` of zeros is valid: its pointers are null, its lengths are zero.
        unsafe { mem::zeroed() }
    }

    /// Lays control messages one behind the other, as `CMSG_NXTHDR(3)` would find them.
    struct ControlWriter {
        memory: Control,
        len: usize,
    }

    impl ControlWriter {
        fn new() -> Self {
            Self {
                memory: Control([0; CONTROL_BYTES]),
                len: 0,
            }
        }

        fn push<T: Copy>(&mut self, level: c_int, kind: c_int, data: T) {
            let size = mem::size_of::<T>() as libc::c_uint;
            // SAFETY: it only computes.
            #[expect(unsafe_code, reason = "argued above")]
            let space = unsafe { libc::CMSG_SPACE(size) } as usize;
            assert!(
                self.len + space <= CONTROL_BYTES,
                "room for two control messages"
            );
            let at = self.memory.0[self.len..].as_mut_ptr();
            // SAFETY: it only computes.
            #[expect(unsafe_code, reason = "argued above")]
            let len = unsafe { libc::CMSG_LEN(size) };
            let header = cmsghdr {
                cmsg_len: len as _,
                cmsg_level: level,
                cmsg_type: kind,
            };
            // SAFETY: `space` bytes from `at` on are ours by the assertion, and a header needs fewer. The pointer is
            // one to bytes; the write relies on no alignment.
            #[expect(unsafe_code, reason = "argued above")]
            unsafe {
                ptr::write_unaligned(at.cast(), header);
            }
            // The data follows the header at the distance that CMSG_LEN adds to its size.
            let data_at = self.len + len as usize - size as usize;
            let data_at = self.memory.0[data_at..].as_mut_ptr();
            // SAFETY: as above; header, data and the padding between them make up `space`.
            #[expect(unsafe_code, reason = "argued above")]
            unsafe {
                ptr::write_unaligned(data_at.cast(), data);
            }
            self.len += space;
        }
    }
}

/// Tells nothing.
///
/// # Errors
/// Always.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn dropped(_socket: impl Sized) -> io::Result<u32> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// The arguments of one call.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub struct Batch;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
impl Batch {
    /// Memory for batches of up to `messages` messages.
    pub fn with_capacity(_messages: usize) -> Self {
        Self
    }

    /// Sends nothing.
    ///
    /// # Errors
    /// Always.
    pub fn send<'a>(
        &mut self,
        _socket: impl Sized,
        _messages: impl IntoIterator<Item = Message<'a>>,
    ) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    fn socket(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
    }

    fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = vec![0; 2000];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        bytes.truncate(len);
        (bytes, from)
    }

    #[test]
    fn messages_of_all_kinds_leave_by_one_call() {
        let sender = socket("0.0.0.0:0");
        let (one, two) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let message = |to: &UdpSocket, parts, segment_bytes, source: Option<[u8; 4]>| Message {
            remote: to.local_addr().unwrap(),
            source: source.map(IpAddr::from),
            parts,
            segment_bytes,
        };
        let mut batch = Batch::with_capacity(4);
        for _ in 0..2 {
            let sent = batch
                .send(
                    &sender,
                    [
                        message(&one, [b"plain", b""], None, None),
                        message(&two, [b"aabbc", b""], Some(2), None),
                        message(&two, [b"source", b""], None, Some([127, 0, 0, 9])),
                        message(&one, [b"xxyy", b""], Some(2), Some([127, 0, 0, 8])),
                        message(&two, [b"dd", b"e"], Some(2), Some([127, 0, 0, 9])),
                        message(&one, [b"", b""], None, None),
                    ],
                )
                .unwrap();
            assert_eq!(sent, 6);
            for (socket, bytes, source) in [
                (&one, &b"plain"[..], "127.0.0.1"),
                (&two, b"aa", "127.0.0.1"),
                (&two, b"bb", "127.0.0.1"),
                (&two, b"c", "127.0.0.1"),
                (&two, b"source", "127.0.0.9"),
                (&one, b"xx", "127.0.0.8"),
                (&one, b"yy", "127.0.0.8"),
                (&two, b"dd", "127.0.0.9"),
                (&two, b"e", "127.0.0.9"),
                (&one, b"", "127.0.0.1"),
            ] {
                let (received, from) = received(socket);
                assert_eq!(received, bytes);
                assert_eq!(from.ip().to_string(), source);
                assert_eq!(from.port(), sender.local_addr().unwrap().port());
            }
        }
    }

    #[test]
    fn what_a_full_socket_drops_is_counted() {
        let receiver = socket("127.0.0.1:0");
        let sender = socket("127.0.0.1:0");
        assert_eq!(dropped(&receiver).unwrap(), 0);
        let buffer_bytes = socket2::SockRef::from(&receiver)
            .recv_buffer_size()
            .unwrap();
        // The kernel counts more than the payload.
        let fit_at_most = buffer_bytes / 1000 + 1;
        for _ in 0..fit_at_most + 100 {
            let to = receiver.local_addr().unwrap();
            sender.send_to(&[0; 1000], to).unwrap();
        }

        let lost = dropped(&receiver).unwrap() as usize;

        receiver.set_nonblocking(true).unwrap();
        let received = std::iter::from_fn(|| receiver.recv(&mut [0; 1000]).ok()).count();
        assert!(lost >= 100, "{lost}");
        assert_eq!(lost + received, fit_at_most + 100);
    }

    #[test]
    fn source_may_be_ipv6() {
        let Ok(sender) = UdpSocket::bind("[::]:0") else {
            return;
        };
        let receiver = socket("[::1]:0");
        let message = Message {
            remote: receiver.local_addr().unwrap(),
            source: Some("::1".parse().unwrap()),
            parts: [b"aabb", b""],
            segment_bytes: Some(2),
        };
        let mut batch = Batch::with_capacity(1);
        assert_eq!(batch.send(&sender, [message]).unwrap(), 1);
        assert_eq!(received(&receiver).0, b"aa");
        assert_eq!(received(&receiver).0, b"bb");
    }

    #[test]
    fn refused_message_ends_a_batch_before_it() {
        let sender = socket("127.0.0.1:0");
        let receiver = socket("127.0.0.1:0");
        let good = Message {
            remote: receiver.local_addr().unwrap(),
            source: None,
            parts: [b"good", b""],
            segment_bytes: None,
        };
        let long = vec![0; 70_000];
        let bad = Message {
            parts: [&long, b""],
            ..good
        };
        let mut batch = Batch::with_capacity(3);
        assert_eq!(batch.send(&sender, [good, bad, good]).unwrap(), 1);
        assert_eq!(received(&receiver).0, b"good");
        let error = batch.send(&sender, [bad, good]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    }
}
