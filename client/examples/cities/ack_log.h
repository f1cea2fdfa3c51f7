// The acknowledgement log of one service process: what its users were told is written. After a run it is held
// against both databases (verify.h).
//
// One line for each acknowledged write, written with one write(2) before the acknowledgement goes out:
//   <id> <version> put|delete\n
// with the version that the authoritative side minted. So a line survives the death of the process; a last
// line without its newline is a write that was never acknowledged.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep::examples {

struct Ack {
  int64_t id = 0;
  int64_t version = 0;
  bool deleted = false;

  bool operator==(const Ack&) const = default;
};

// Thread-safe: lines are appended whole. One process at a time may have a log open.
class AckLog {
 public:
  // Creates the file, or goes on with it after cutting off a torn last line. Statuses as of open(2) and the
  // like.
  static absl::StatusOr<std::unique_ptr<AckLog>> Open(const std::string& path);
  ~AckLog();
  AckLog(const AckLog&) = delete;
  AckLog& operator=(const AckLog&) = delete;

  // On an error the write must not be acknowledged.
  absl::Status Append(const Ack& ack);

 private:
  AckLog(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string path_;
  const int fd_;
};

struct AckLogContent {
  std::vector<Ack> acks;
  bool torn = false;  // the last line had no newline and was left out
};

// INVALID_ARGUMENT, naming file and line, when a line is not as above.
absl::StatusOr<AckLogContent> ReadAckLog(const std::string& path);

}  // namespace lockstep::examples
