#include "core/wire/violations.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/utf8.h"

namespace lockstep::wire {
namespace {

// A path holds names (with '_') and subscripts, nothing else: this tells it from a sentence with a colon.
bool LooksLikePath(absl::string_view text) {
  return !text.empty() && text.find(' ') == absl::string_view::npos;
}

bool CheckSize(const FieldPath& path, size_t size, absl::string_view unit, LengthLimits limits,
               Violations& violations) {
  if (size < limits.min) {
    violations.Add(path, size == 0 ? absl::StrCat("is empty; at least ", limits.min, " ", unit, " needed")
                                   : absl::StrCat(size, " ", unit, "; at least ", limits.min, " needed"));
    return false;
  }
  if (size > limits.max) {
    violations.Add(path, absl::StrCat(size, " ", unit, "; at most ", limits.max, " are allowed"));
    return false;
  }
  return true;
}

}  // namespace

std::string FieldPath::ToString() const {
  std::string out = parent_ == nullptr ? "" : parent_->ToString();
  if (kind_ == Kind::kRoot) return out;
  absl::StrAppend(&out, out.empty() ? "" : ".", field_);
  if (kind_ == Kind::kElement) absl::StrAppend(&out, "[", index_, "]");
  if (kind_ == Kind::kMapValue) absl::StrAppend(&out, "[\"", absl::Utf8SafeCEscape(key_), "\"]");
  return out;
}

void Violations::Add(std::string path, absl::string_view description) {
  if (violations_.size() >= kMost || !paths_.insert(path).second) return;
  violations_.push_back({std::move(path), std::string(description)});
}

void Violations::AddStatus(const absl::Status& status, const FieldPath& fallback) {
  if (status.ok()) return;
  const absl::string_view message = status.message();
  const size_t colon = message.find(": ");
  if (colon != absl::string_view::npos && LooksLikePath(message.substr(0, colon))) {
    Add(std::string(message.substr(0, colon)), message.substr(colon + 2));
  } else {
    Add(fallback, message);
  }
}

void Violations::AddAll(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  LOCKSTEP_CHECK(info.has_value(), "made by InvalidArgumentWithViolations");
  for (const FieldViolation& violation : info->field_violations) Add(violation.field, violation.description);
}

absl::Status Violations::ToStatus() const {
  if (violations_.empty()) return absl::OkStatus();
  return InvalidArgumentWithViolations(violations_);
}

bool CheckLength(const FieldPath& path, absl::string_view value, LengthLimits limits,
                 Violations& violations) {
  return CheckSize(path, Utf8Length(value), "characters", limits, violations);
}

bool CheckBytes(const FieldPath& path, size_t bytes, LengthLimits limits, Violations& violations) {
  return CheckSize(path, bytes, "bytes", limits, violations);
}

bool CheckCount(const FieldPath& path, size_t count, LengthLimits limits, Violations& violations) {
  return CheckSize(path, count, "entries", limits, violations);
}

bool CheckInstanceId(const FieldPath& path, absl::string_view value, Violations& violations) {
  const bool known_characters = std::all_of(value.begin(), value.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("._:-", c);
  });
  if (!known_characters) {
    violations.Add(path, "has other characters than A-Z, a-z, 0-9, '.', '_', ':' and '-'");
    return false;
  }
  return CheckLength(path, value, {.min = 1, .max = 128}, violations);
}

bool CheckFinite(const FieldPath& path, double value, Violations& violations) {
  if (std::isfinite(value)) return true;
  violations.Add(path, absl::StrCat(value, " is not a finite number"));
  return false;
}

bool CheckHex(const FieldPath& path, absl::string_view value, LengthLimits limits, Violations& violations) {
  if (!std::all_of(value.begin(), value.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); })) {
    violations.Add(path, "is not hexadecimal");
    return false;
  }
  return CheckLength(path, value, limits, violations);
}

}  // namespace lockstep::wire
