// A RecordCodec for tests that keeps the records themselves in memory: encoded is where to find them. It
// needs no wire format, so ThreadSanitizer can judge what uses it. Records survive a "restart" of the engine
// as long as it lives.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "server/store/record_codec.h"

namespace lockstep::engine {

// Thread-safe.
class TableCodec final : public store::RecordCodec {
 public:
  std::string Encode(const domain::Migration& record) const override { return migrations_.Add(record); }
  std::string Encode(const domain::DecisionRecord& record) const override { return decisions_.Add(record); }
  std::string Encode(const domain::AuditEntry& record) const override { return audit_.Add(record); }
  std::string Encode(const domain::Enrolment& record) const override { return enrolments_.Add(record); }
  std::string Encode(const domain::TelemetryCursor& record) const override { return cursors_.Add(record); }
  std::string Encode(const domain::WindowRecord& record) const override { return windows_.Add(record); }
  std::string Encode(const domain::MismatchSample& record) const override { return samples_.Add(record); }

  absl::StatusOr<domain::Migration> DecodeMigration(absl::string_view bytes) const override {
    return migrations_.Find(bytes);
  }
  absl::StatusOr<domain::DecisionRecord> DecodeDecision(absl::string_view bytes) const override {
    return decisions_.Find(bytes);
  }
  absl::StatusOr<domain::AuditEntry> DecodeAuditEntry(absl::string_view bytes) const override {
    return audit_.Find(bytes);
  }
  absl::StatusOr<domain::Enrolment> DecodeEnrolment(absl::string_view bytes) const override {
    return enrolments_.Find(bytes);
  }
  absl::StatusOr<domain::TelemetryCursor> DecodeTelemetryCursor(absl::string_view bytes) const override {
    return cursors_.Find(bytes);
  }
  absl::StatusOr<domain::WindowRecord> DecodeWindow(absl::string_view bytes) const override {
    return windows_.Find(bytes);
  }
  absl::StatusOr<domain::MismatchSample> DecodeMismatchSample(absl::string_view bytes) const override {
    return samples_.Find(bytes);
  }

 private:
  template <typename Record>
  class Records {
   public:
    explicit Records(std::string kind) : kind_(std::move(kind)) {}
    std::string Add(const Record& record) const {
      MutexLock lock(&mutex_);
      records_.push_back(record);
      return absl::StrCat(kind_, records_.size() - 1);
    }
    absl::StatusOr<Record> Find(absl::string_view bytes) const {
      size_t index = 0;
      MutexLock lock(&mutex_);
      if (bytes.substr(0, kind_.size()) != kind_ || !absl::SimpleAtoi(bytes.substr(kind_.size()), &index) ||
          index >= records_.size()) {
        return absl::DataLossError(absl::StrCat("damaged ", kind_));
      }
      return records_[index];
    }

   private:
    const std::string kind_;
    mutable Mutex mutex_;
    mutable std::vector<Record> records_ ABSL_GUARDED_BY(mutex_);
  };

  Records<domain::Migration> migrations_{"migration "};
  Records<domain::DecisionRecord> decisions_{"decision "};
  Records<domain::AuditEntry> audit_{"audit "};
  Records<domain::Enrolment> enrolments_{"enrolment "};
  Records<domain::TelemetryCursor> cursors_{"cursor "};
  Records<domain::WindowRecord> windows_{"window "};
  Records<domain::MismatchSample> samples_{"sample "};
};

}  // namespace lockstep::engine
