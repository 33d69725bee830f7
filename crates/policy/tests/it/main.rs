//! Integration tests of what decides.

#[cfg(test)]
mod manual; // what the manual shows is so
#[cfg(test)]
mod seeds; // what the fuzz targets begin with
