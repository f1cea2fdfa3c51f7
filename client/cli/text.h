// Small conversions between what people type and read, and what the API carries: weights, ratios, durations,
// ages, enum names, and "did you mean". Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace lockstep::cli {

// A share of keys in buckets of 0.001 %, [0, 100000]. Accepts a percentage of at most three decimals ("5%",
// "0.001 %") or a plain number of buckets ("5000"). Integer arithmetic: what is typed is what is meant.
absl::StatusOr<uint32_t> ParseWeight(absl::string_view text);
std::string FormatWeight(uint32_t buckets);  // "5 %", "0.001 %"

// A rate: a percentage ("0.1%") or a plain decimal number ("0.001", "1e-3"); finite and not negative.
absl::StatusOr<double> ParseRatio(absl::string_view text);
std::string FormatRatio(double ratio);  // "0.1 %", three significant digits; "<0.001 %"

// A quantile: "p95", "0.95" or "95%"; in (0, 1).
absl::StatusOr<double> ParseQuantile(absl::string_view text);

// "30s", "5m", "1h30m", "500ms"; finite and not negative. A number without a unit is refused, except 0.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);
// Two units at most: "45s", "12m30s", "3h", "2d4h".
std::string ShortDuration(absl::Duration duration);

// A moment: RFC 3339 ("2026-01-31T09:00:00Z"), or how long before `now`: "10m ago", "-10m" or "10m".
absl::StatusOr<absl::Time> ParseTime(absl::string_view text, absl::Time now);

absl::Duration FromProto(const google::protobuf::Duration& duration);
absl::Time FromProto(const google::protobuf::Timestamp& timestamp);

// "1,234,567".
std::string FormatCount(uint64_t count);

// The value without its enum's prefix: STAGE_CANARY_READ is "CANARY_READ". "UNSPECIFIED" for the zero value,
// the number for a value this program does not know.
std::string EnumName(const google::protobuf::EnumDescriptor& type, int value);
// The value's short or full name in any case; null if there is none. The zero value has no name.
const google::protobuf::EnumValueDescriptor* FindEnumValue(const google::protobuf::EnumDescriptor& type,
                                                           absl::string_view name);
// Short names in order, the zero value left out. `lower`: in the spelling of configuration files.
std::vector<std::string> EnumNames(const google::protobuf::EnumDescriptor& type, bool lower);

// The candidate closest to `word`, for "did you mean"; empty when nothing is close.
std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates);

// Text from elsewhere on its way to a terminal: control characters, and bytes that are not UTF-8, become '?',
// so that a description can't move the cursor. Line breaks become spaces.
std::string Printable(absl::string_view text);

// Columns that UTF-8 text takes, one per code point.
size_t DisplayWidth(absl::string_view text);

}  // namespace lockstep::cli
