// UTF-8 at the borders of the program: text of unknown origin has to be well-formed before it enters JSON or
// a protobuf string field, because the other end refuses the whole message otherwise.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace lockstep {

// Length in bytes of the well-formed UTF-8 sequence at the start of `text`, which must not be empty; 0 if
// there is none. Overlong forms, surrogates and code points above U+10FFFF are not well-formed (Unicode 15,
// table 3-7).
size_t Utf8SequenceLength(absl::string_view text);

// `text` with every byte that is not part of a well-formed sequence replaced by U+FFFD.
std::string ToValidUtf8(absl::string_view text);

// Number of code points; a byte that is not part of a well-formed sequence counts as one.
size_t Utf8Length(absl::string_view text);

// The longest prefix of at most `max_bytes` bytes that does not cut a sequence in two.
absl::string_view Utf8Prefix(absl::string_view text, size_t max_bytes);

}  // namespace lockstep
