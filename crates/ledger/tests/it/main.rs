//! The ledger through its public face, on real files.

#[cfg(test)]
mod support; // a ledger in a directory of its own
#[cfg(test)]
mod append; // what is appended can be read back
#[cfg(test)]
mod export; // an export satisfies an independent judge
#[cfg(test)]
mod tamper; // whatever is changed is found, and where
#[cfg(test)]
mod torn; // what an interrupted writer leaves behind
#[cfg(test)]
mod child; // writers in processes of their own
#[cfg(test)]
mod crowd; // many writers at once
#[cfg(test)]
mod verifier; // the stand-alone program
#[cfg(test)]
mod seeds; // what the fuzz targets begin with
