//! From verdicts about single paths to the sets that the packet path uses: own view and the peer's, administrative state, drain
//! deadlines, lost peers, `hold`.
