#include "core/base/error_info.h"

#include <cstdint>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/check.h"

namespace lockstep {
namespace {

constexpr char kPayloadUrl[] = "lockstep/error-info";
constexpr size_t kMostViolationsInMessage = 5;

// The payload never leaves the process: a flat list of length-prefixed strings ("5:hello") is enough.
class Packer {
 public:
  void Add(absl::string_view text) { absl::StrAppend(&out_, text.size(), ":", text); }
  void AddCount(size_t count) { Add(absl::StrCat(count)); }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

class Unpacker {
 public:
  explicit Unpacker(absl::string_view in) : in_(in) {}
  std::string Next() {
    const size_t colon = in_.find(':');
    uint64_t size = 0;
    LOCKSTEP_CHECK(colon != absl::string_view::npos && absl::SimpleAtoi(in_.substr(0, colon), &size) &&
                       size <= in_.size() - colon - 1,
                   "an error-info payload is written by WithErrorInfo only");
    std::string text(in_.substr(colon + 1, size));
    in_.remove_prefix(colon + 1 + size);
    return text;
  }
  size_t NextCount() {
    uint64_t count = 0;
    LOCKSTEP_CHECK(absl::SimpleAtoi(Next(), &count), "a count is a number");
    return count;
  }

 private:
  absl::string_view in_;
};

}  // namespace

absl::Status WithErrorInfo(absl::Status status, const ErrorInfo& info) {
  LOCKSTEP_CHECK(!status.ok(), "an OK status carries no error");
  Packer packer;
  packer.Add(info.reason);
  packer.AddCount(info.metadata.size());
  for (const auto& [key, value] : info.metadata) {
    packer.Add(key);
    packer.Add(value);
  }
  packer.AddCount(info.field_violations.size());
  for (const FieldViolation& violation : info.field_violations) {
    packer.Add(violation.field);
    packer.Add(violation.description);
  }
  packer.AddCount(info.precondition_violations.size());
  for (const PreconditionViolation& violation : info.precondition_violations) {
    packer.Add(violation.type);
    packer.Add(violation.subject);
    packer.Add(violation.description);
  }
  status.SetPayload(kPayloadUrl, absl::Cord(packer.Take()));
  return status;
}

std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return std::nullopt;
  const std::string bytes(*payload);
  Unpacker unpacker(bytes);
  ErrorInfo info;
  info.reason = unpacker.Next();
  for (size_t left = unpacker.NextCount(); left > 0; --left) {
    std::string key = unpacker.Next();
    info.metadata[std::move(key)] = unpacker.Next();
  }
  for (size_t left = unpacker.NextCount(); left > 0; --left) {
    FieldViolation violation;
    violation.field = unpacker.Next();
    violation.description = unpacker.Next();
    info.field_violations.push_back(std::move(violation));
  }
  for (size_t left = unpacker.NextCount(); left > 0; --left) {
    PreconditionViolation violation;
    violation.type = unpacker.Next();
    violation.subject = unpacker.Next();
    violation.description = unpacker.Next();
    info.precondition_violations.push_back(std::move(violation));
  }
  return info;
}

absl::Status InvalidArgumentWithViolations(std::vector<FieldViolation> violations) {
  LOCKSTEP_CHECK(!violations.empty(), "no violation, no error");
  std::string message;
  for (size_t i = 0; i < violations.size() && i < kMostViolationsInMessage; ++i) {
    absl::StrAppend(&message, i == 0 ? "" : "; ", violations[i].field, ": ", violations[i].description);
  }
  if (violations.size() > kMostViolationsInMessage) {
    absl::StrAppend(&message, "; and ", violations.size() - kMostViolationsInMessage, " more");
  }
  return WithErrorInfo(absl::InvalidArgumentError(message), {.reason = "INVALID_ARGUMENT",
                                                             .metadata = {},
                                                             .field_violations = std::move(violations),
                                                             .precondition_violations = {}});
}

}  // namespace lockstep
