//! Boxes (ISO/IEC 14496-12, section 4.2): writing them into memory, and looking into those that are there.

/// Writes a box that holds what `fill` writes.
pub(super) fn write_box(out: &mut Vec<u8>, kind: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(kind);
    fill(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// As [`write_box`], with version and flags in front.
pub(super) fn write_full_box(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    write_box(out, kind, |out| {
        put(out, u32::from(version) << 24 | flags);
        fill(out);
    });
}

pub(super) fn put(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

pub(super) fn put_all<const N: usize>(out: &mut Vec<u8>, values: [u32; N]) {
    for value in values {
        put(out, value);
    }
}

pub(super) fn put_short(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_be_bytes());
}

pub(super) fn put_long(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_be_bytes());
}

/// The boxes in a piece of memory: kinds and contents. Ends at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boxes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        let [s0, s1, s2, s3, kind @ ..] = *head;
        let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        let body_len = match size {
            0 => rest.len(),
            size => size.checked_sub(8)?,
        };
        let (body, rest) = rest.split_at_checked(body_len)?;
        self.0 = rest;
        Some((kind, body))
    }
}

/// The content of the first box of a kind, and of one in it, and so on.
pub(super) fn find<'a>(content: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(content, |content, kind| {
        let mut boxes = Boxes(content);
        boxes
            .find(|(known, _)| known == *kind)
            .map(|(_, body)| body)
    })
}

pub(super) fn short_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

pub(super) fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

pub(super) fn long_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_be_bytes(*bytes))
}

/// Version of a full box.
pub(super) fn version(body: &[u8]) -> u8 {
    body.first().copied().unwrap_or(0)
}

/// The entries of a table: as many as the box says, behind their count at `at`, and no more than there are.
pub(super) fn entries(body: &[u8], at: usize, entry_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let count = word_at(body, at).unwrap_or(0) as usize;
    let rest = body.get(at + 4..).unwrap_or_default();
    rest.chunks_exact(entry_bytes).take(count)
}
