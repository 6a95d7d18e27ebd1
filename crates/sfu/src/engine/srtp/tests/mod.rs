//! Against the standards' own vectors, and both ways against `rtc-srtp`.

mod hostile;
mod oracle;
mod vectors;
