//! Arrays as parameters, in their binary form.

/// Appends the binary form of an array of one dimension.
pub fn array<'a>(out: &mut Vec<u8>, element: u32, values: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone) {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX).to_be_bytes();
    let nulls = values.clone().any(|v| v.is_none());
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&i32::from(nulls).to_be_bytes());
    out.extend_from_slice(&element.to_be_bytes());
    out.extend_from_slice(&count(values.len()));
    out.extend_from_slice(&1_i32.to_be_bytes());
    for value in values {
        match value {
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(bytes) => {
                out.extend_from_slice(&count(bytes.len()));
                out.extend_from_slice(bytes);
            }
        }
    }
}
