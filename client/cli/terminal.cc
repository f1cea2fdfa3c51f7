#include "client/cli/terminal.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lockstep::cli {

std::optional<std::string> Environment(const Streams& streams, absl::string_view name) {
  const auto found = streams.environment.find(std::string(name));
  if (found == streams.environment.end() || found->second.empty()) return std::nullopt;
  return found->second;
}

Style StyleFor(const Streams& streams, bool is_terminal, ColorMode mode) {
  Style style;
  switch (mode) {
    case ColorMode::kAlways:
      style.color = true;
      break;
    case ColorMode::kNever:
      break;
    case ColorMode::kAuto:
      style.color = is_terminal && !Environment(streams, "NO_COLOR") &&
                    Environment(streams, "TERM").value_or("dumb") != "dumb";
      break;
  }
  for (const absl::string_view variable : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const auto locale = Environment(streams, variable);
    if (!locale) continue;
    const std::string lower = absl::AsciiStrToLower(*locale);
    style.unicode = absl::StrContains(lower, "utf-8") || absl::StrContains(lower, "utf8");
    break;
  }
  return style;
}

std::string Paint(const Style& style, Tone tone, absl::string_view text) {
  if (!style.color || text.empty()) return std::string(text);
  absl::string_view code;
  switch (tone) {
    case Tone::kPlain:
      return std::string(text);
    case Tone::kGood:
      code = "32";
      break;
    case Tone::kWaiting:
      code = "33";
      break;
    case Tone::kBad:
      code = "31";
      break;
    case Tone::kStrong:
      code = "1";
      break;
    case Tone::kFaint:
      code = "2";
      break;
  }
  return absl::StrCat("\x1b[", code, "m", text, "\x1b[0m");
}

absl::string_view GlyphText(const Style& style, Glyph glyph) {
  switch (glyph) {
    case Glyph::kDone:
      return style.unicode ? "✓" : "+";
    case Glyph::kCurrent:
      return style.unicode ? "▶" : ">";
    case Glyph::kAhead:
      return style.unicode ? "○" : "o";
    case Glyph::kWaiting:
      return style.unicode ? "…" : ".";
    case Glyph::kFailed:
      return style.unicode ? "✗" : "x";
    case Glyph::kPaused:
      return style.unicode ? "‖" : "=";
    case Glyph::kWarning:
      return "!";
  }
  return "";
}

}  // namespace lockstep::cli
