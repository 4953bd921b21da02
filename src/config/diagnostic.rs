//! Every mistake at once: file:line:column, the line, a caret, a hint.
