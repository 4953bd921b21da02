//! Fragments without ports: which flow a later fragment belongs to, and the bounded store of those that came first.
