// JSON-line logging: one object a line with `ts`, `level`, `msg` and any further fields.
//
//   Log(LogLevel::kInfo, "published", {{"migration", name}, {"epoch", absl::StrCat(epoch)}});
//
// Thread-safe. Lines are written whole. Never log routing keys or record values.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace lockstep {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

using LogField = std::pair<absl::string_view, absl::string_view>;

// Lines below `level` are dropped. Default: kInfo.
void SetLogLevel(LogLevel level);

void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields = {});

// The line that Log writes, without the newline.
std::string FormatLogLine(absl::Time now, LogLevel level, absl::string_view message,
                          std::initializer_list<LogField> fields);

// `text` as a JSON string, quotes included. Bytes that are not UTF-8 become U+FFFD.
std::string JsonQuote(absl::string_view text);

}  // namespace lockstep
