#include "core/wire/timestamps.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace lockstep::wire {
namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the range of google.protobuf.Timestamp.
constexpr int64_t kMinTimestampSeconds = -62'135'596'800;
constexpr int64_t kMaxTimestampSeconds = 253'402'300'799;
// The range of google.protobuf.Duration.
constexpr int64_t kMaxDurationSeconds = 315'576'000'000;

}  // namespace

google::protobuf::Timestamp ToProto(absl::Time time) {
  time = std::clamp(time, absl::FromUnixSeconds(kMinTimestampSeconds),
                    absl::FromUnixSeconds(kMaxTimestampSeconds) + absl::Nanoseconds(kNanosPerSecond - 1));
  google::protobuf::Timestamp out;
  const int64_t seconds = absl::ToUnixSeconds(time);  // rounds down
  out.set_seconds(seconds);
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return out;
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  duration = std::clamp(duration, absl::Seconds(-kMaxDurationSeconds), absl::Seconds(kMaxDurationSeconds));
  google::protobuf::Duration out;
  absl::Duration rest;
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return out;
}

absl::Time ReadTime(const google::protobuf::Timestamp& time, const FieldPath& path, Violations& violations) {
  if (time.nanos() < 0 || time.nanos() >= kNanosPerSecond) {
    violations.Add(path, absl::StrCat("nanos = ", time.nanos(), "; must be in [0, 999999999]"));
    return absl::InfinitePast();
  }
  if (time.seconds() < kMinTimestampSeconds || time.seconds() > kMaxTimestampSeconds) {
    violations.Add(path, absl::StrCat("seconds = ", time.seconds(), "; the year must be in [1, 9999]"));
    return absl::InfinitePast();
  }
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

absl::Time ReadOptionalTime(bool has_field, const google::protobuf::Timestamp& time, const FieldPath& path,
                            Violations& violations) {
  return has_field ? ReadTime(time, path, violations) : absl::InfinitePast();
}

absl::Duration ReadDuration(const google::protobuf::Duration& duration, const FieldPath& path,
                            Violations& violations) {
  const int64_t seconds = duration.seconds();
  const int32_t nanos = duration.nanos();
  if (nanos <= -kNanosPerSecond || nanos >= kNanosPerSecond) {
    violations.Add(path, absl::StrCat("nanos = ", nanos, "; must be in [-999999999, 999999999]"));
    return absl::ZeroDuration();
  }
  if (seconds < -kMaxDurationSeconds || seconds > kMaxDurationSeconds) {
    violations.Add(path, absl::StrCat("seconds = ", seconds, "; at most 10000 years are allowed"));
    return absl::ZeroDuration();
  }
  if ((seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0)) {
    violations.Add(path, absl::StrCat("seconds = ", seconds, " and nanos = ", nanos, " differ in sign"));
    return absl::ZeroDuration();
  }
  return absl::Seconds(seconds) + absl::Nanoseconds(nanos);
}

absl::Duration ReadPeriod(const google::protobuf::Duration& duration, const FieldPath& path,
                          Violations& violations) {
  const absl::Duration period = ReadDuration(duration, path, violations);
  if (period >= absl::ZeroDuration()) return period;
  violations.Add(path, absl::StrCat(absl::FormatDuration(period), " is negative"));
  return absl::ZeroDuration();
}

}  // namespace lockstep::wire
