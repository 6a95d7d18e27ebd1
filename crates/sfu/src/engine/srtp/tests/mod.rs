//! Against the standards' own vectors, and both ways against `rtc-srtp`.

mod vectors;
