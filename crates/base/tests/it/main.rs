//! Integration tests of the shared words.

#[cfg(test)]
mod seeds; // what the fuzz targets begin with
