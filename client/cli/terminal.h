// Everything the command exchanges with the outside world besides the network, as arguments, so that tests
// run the whole command in process.
#pragma once

#include <functional>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep::cli {

// Not owned; all of it outlives the run.
struct Streams {
  std::istream& in;
  std::ostream& out;  // data only
  std::ostream& err;  // everything else
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  std::map<std::string, std::string> environment;
};

// The variable's value; nothing when it is unset or empty.
std::optional<std::string> Environment(const Streams& streams, absl::string_view name);

// How text may look. A glyph always comes with a word, so that neither colour nor Unicode carries meaning
// alone.
struct Style {
  bool color = false;
  bool unicode = false;
};

enum class ColorMode { kAuto, kAlways, kNever };

// Colour: `mode`; on kAuto a terminal, unless NO_COLOR is set or TERM is "dumb". Unicode: LC_ALL, LC_CTYPE or
// LANG, the first that is set, names UTF-8.
Style StyleFor(const Streams& streams, bool is_terminal, ColorMode mode);

enum class Tone { kPlain, kGood, kWaiting, kBad, kStrong, kFaint };

// `text` in the tone's colour, or as it is.
std::string Paint(const Style& style, Tone tone, absl::string_view text);

enum class Glyph { kDone, kCurrent, kAhead, kWaiting, kFailed, kPaused, kWarning };

// One column wide in both spellings.
absl::string_view GlyphText(const Style& style, Glyph glyph);

}  // namespace lockstep::cli
