#include "client/cli/text.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace lockstep::cli {
namespace {

constexpr uint32_t kBuckets = 100'000;
constexpr uint32_t kBucketsPerPercent = 1'000;

bool AllDigits(absl::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(c); });
}

// Trims, and removes a '%' at the end. True if there was one.
bool ConsumePercent(absl::string_view* text) {
  *text = absl::StripAsciiWhitespace(*text);
  if (!absl::ConsumeSuffix(text, "%")) return false;
  *text = absl::StripAsciiWhitespace(*text);
  return true;
}

absl::StatusOr<uint32_t> PercentToBuckets(absl::string_view percent, absl::string_view original) {
  const size_t dot = percent.find('.');
  const absl::string_view whole = percent.substr(0, dot);
  const absl::string_view fraction = dot == absl::string_view::npos ? "" : percent.substr(dot + 1);
  if (!AllDigits(whole) || (dot != absl::string_view::npos && !AllDigits(fraction))) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", original, "\" is not a percentage: write it as \"5%\" or \"0.001%\""));
  }
  const absl::string_view significant = fraction.substr(0, fraction.find_last_not_of('0') + 1);
  if (significant.size() > 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", original, "\" is finer than one bucket: at most three decimals, 0.001 % is the smallest"));
  }
  uint32_t whole_percent = 0;
  uint32_t thousandths = 0;
  const std::string padded = absl::StrCat(significant, std::string(3 - significant.size(), '0'));
  if (!absl::SimpleAtoi(whole, &whole_percent) || !absl::SimpleAtoi(padded, &thousandths) ||
      whole_percent > 100 || (whole_percent == 100 && thousandths > 0)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", original, "\" is more than 100 %"));
  }
  return whole_percent * kBucketsPerPercent + thousandths;
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

// STAGE_CANARY_READ of enum Stage -> "STAGE_"; the prefix comes from the zero value, "STAGE_UNSPECIFIED".
absl::string_view EnumPrefix(const google::protobuf::EnumDescriptor& type) {
  absl::string_view prefix = type.value(0)->name();
  absl::ConsumeSuffix(&prefix, "UNSPECIFIED");
  return prefix;
}

// Length of the UTF-8 sequence at the start of `text`, 0 if there is no valid one.
size_t Utf8Length(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80                   ? 1
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                        : lead >= 0xe0                ? 3
                        : lead >= 0xc2                ? 2
                                                      : 0;
  if (length == 0 || lead >= 0xf5 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

absl::StatusOr<uint32_t> ParseWeight(absl::string_view text) {
  absl::string_view number = text;
  if (ConsumePercent(&number)) return PercentToBuckets(number, text);
  if (!AllDigits(number)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is not a weight: a percentage like \"5%\", or buckets of 0.001 % like \"5000\""));
  }
  uint32_t buckets = 0;
  if (!absl::SimpleAtoi(number, &buckets) || buckets > kBuckets) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is more than 100000 buckets, which are 100 %"));
  }
  return buckets;
}

std::string FormatWeight(uint32_t buckets) {
  std::string text = absl::StrFormat("%d.%03d", buckets / kBucketsPerPercent, buckets % kBucketsPerPercent);
  text.resize(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " %";
}

absl::StatusOr<double> ParseRatio(absl::string_view text) {
  absl::string_view number = text;
  const bool percent = ConsumePercent(&number);
  double ratio = 0;
  const bool starts_as_number = !number.empty() && (absl::ascii_isdigit(number[0]) || number[0] == '.');
  // Shifting the decimal exponent in the text rounds once, where dividing by 100 would round twice.
  const bool has_exponent = number.find_first_of("eE") != absl::string_view::npos;
  const std::string shifted = percent && !has_exponent ? absl::StrCat(number, "e-2") : std::string(number);
  if (!starts_as_number || !absl::SimpleAtod(shifted, &ratio) || !std::isfinite(ratio)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a rate: write it as \"0.1%\" or as \"0.001\""));
  }
  return percent && has_exponent ? ratio / 100 : ratio;
}

std::string FormatRatio(double ratio) {
  if (ratio > 0 && ratio < 1e-5) return "<0.001 %";
  return absl::StrFormat("%.3g %%", ratio * 100);
}

absl::StatusOr<double> ParseQuantile(absl::string_view text) {
  absl::string_view number = absl::StripAsciiWhitespace(text);
  const bool percentile = absl::ConsumePrefix(&number, "p") || absl::ConsumePrefix(&number, "P");
  const auto quantile = ParseRatio(percentile ? absl::StrCat(number, "%") : std::string(number));
  if (quantile.ok() && *quantile > 0 && *quantile < 1) return quantile;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not a quantile: write it as \"p95\" or as \"0.95\""));
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(text);
  absl::Duration duration;
  if (!absl::ParseDuration(trimmed, &duration) || duration == absl::InfiniteDuration() ||
      duration == -absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is not a duration: write a number with a unit, like \"30s\", \"5m\" or \"1h30m\""));
  }
  if (duration < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is negative"));
  }
  return duration;
}

std::string ShortDuration(absl::Duration duration) {
  if (duration < absl::ZeroDuration()) duration = absl::ZeroDuration();
  if (duration == absl::InfiniteDuration()) return "forever";
  if (duration < absl::Seconds(1)) return absl::StrCat(absl::ToInt64Milliseconds(duration), "ms");
  const int64_t seconds = absl::ToInt64Seconds(duration);
  const auto two = [](int64_t big, absl::string_view big_unit, int64_t small, absl::string_view small_unit) {
    return small == 0 ? absl::StrCat(big, big_unit) : absl::StrCat(big, big_unit, small, small_unit);
  };
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return two(seconds / 60, "m", seconds % 60, "s");
  if (seconds < 86400) return two(seconds / 3600, "h", seconds % 3600 / 60, "m");
  return two(seconds / 86400, "d", seconds % 86400 / 3600, "h");
}

absl::StatusOr<absl::Time> ParseTime(absl::string_view text, absl::Time now) {
  absl::Time time;
  std::string error;
  if (absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return time;
  absl::string_view before = absl::StripAsciiWhitespace(text);
  absl::ConsumePrefix(&before, "-");
  absl::ConsumeSuffix(&before, "ago");
  const auto duration = ParseDuration(before);
  if (duration.ok()) return now - *duration;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not a time: write it as \"2026-01-31T09:00:00Z\" or as \"10m ago\""));
}

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

absl::Time FromProto(const google::protobuf::Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

std::string FormatCount(uint64_t count) {
  std::string digits = absl::StrCat(count);
  for (int i = static_cast<int>(digits.size()) - 3; i > 0; i -= 3) digits.insert(i, ",");
  return digits;
}

std::string EnumName(const google::protobuf::EnumDescriptor& type, int value) {
  const google::protobuf::EnumValueDescriptor* found = type.FindValueByNumber(value);
  if (found == nullptr) return absl::StrCat(value);
  return std::string(absl::StripPrefix(found->name(), EnumPrefix(type)));
}

const google::protobuf::EnumValueDescriptor* FindEnumValue(const google::protobuf::EnumDescriptor& type,
                                                           absl::string_view name) {
  const std::string upper = absl::AsciiStrToUpper(name);
  for (int i = 1; i < type.value_count(); ++i) {
    const std::string& full = type.value(i)->name();
    if (upper == full || upper == absl::StripPrefix(full, EnumPrefix(type))) return type.value(i);
  }
  return nullptr;
}

std::vector<std::string> EnumNames(const google::protobuf::EnumDescriptor& type, bool lower) {
  std::vector<std::string> names;
  for (int i = 1; i < type.value_count(); ++i) {
    const std::string name = EnumName(type, type.value(i)->number());
    names.push_back(lower ? absl::AsciiStrToLower(name) : name);
  }
  return names;
}

std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates) {
  // A third of the letters wrong is a typing mistake; more is another word.
  size_t best = std::max<size_t>(word.size() / 3, 1) + 1;
  std::string nearest;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string Printable(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    // U+0080 to U+009F are control characters too: some terminals act on them.
    const bool c1 = length == 2 && text[0] == '\xc2' && static_cast<unsigned char>(text[1]) < 0xa0;
    if (length == 0 || c1) {
      out += '?';
      text.remove_prefix(std::max<size_t>(length, 1));
      continue;
    }
    if (length == 1 && (text[0] == '\n' || text[0] == '\t' || text[0] == '\r')) {
      out += ' ';
    } else if (length == 1 && absl::ascii_iscntrl(text[0])) {
      out += '?';
    } else {
      out.append(text.data(), length);
    }
    text.remove_prefix(length);
  }
  return out;
}

size_t DisplayWidth(absl::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

}  // namespace lockstep::cli
