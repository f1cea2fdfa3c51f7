// Times and durations, range-checked. absl::InfinitePast() stands for an unset timestamp.
#pragma once

#include "absl/time/time.h"
#include "core/wire/violations.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace lockstep::wire {

// Rounded down to whole nanoseconds; times outside the years 1 to 9999 become the nearest one inside.
google::protobuf::Timestamp ToProto(absl::Time time);
// Rounded towards zero to whole nanoseconds; durations beyond 10,000 years become that.
google::protobuf::Duration ToProto(absl::Duration duration);

// Sets a field unless `time` is InfinitePast: SetTime(m.create_time, out,
// &v1::Migration::mutable_create_time).
template <typename Message>
void SetTime(absl::Time time, Message& message, google::protobuf::Timestamp* (Message::*mutable_field)()) {
  if (time != absl::InfinitePast()) *(message.*mutable_field)() = ToProto(time);
}

// A violation, and InfinitePast, for what is not a valid Timestamp (nanos outside [0, 1e9), year outside [1,
// 9999]).
absl::Time ReadTime(const google::protobuf::Timestamp& time, const FieldPath& path, Violations& violations);
// As ReadTime; InfinitePast without a violation when the field is not set.
absl::Time ReadOptionalTime(bool has_field, const google::protobuf::Timestamp& time, const FieldPath& path,
                            Violations& violations);

// A violation, and zero, for what is not a valid Duration (nanos outside (-1e9, 1e9) or of another sign than
// seconds, more than 10,000 years). An unset field reads as zero.
absl::Duration ReadDuration(const google::protobuf::Duration& duration, const FieldPath& path,
                            Violations& violations);
// As ReadDuration; negative ones are violations too.
absl::Duration ReadPeriod(const google::protobuf::Duration& duration, const FieldPath& path,
                          Violations& violations);

}  // namespace lockstep::wire
