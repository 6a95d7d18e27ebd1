//! STUN messages as a peer, or an attacker, would send them. Written by hand because the hostile
//! ones cannot be made with a sound library.
