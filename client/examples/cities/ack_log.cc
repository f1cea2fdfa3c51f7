#include "client/examples/cities/ack_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/examples/cities/files.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

std::optional<Ack> ParseAck(absl::string_view line) {
  const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
  Ack ack;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &ack.id) || ack.id < 1 ||
      !absl::SimpleAtoi(parts[1], &ack.version) || ack.version < 1) {
    return std::nullopt;
  }
  if (parts[2] != "put" && parts[2] != "delete") return std::nullopt;
  ack.deleted = parts[2] == "delete";
  return ack;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AckLog>> AckLog::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(errno, path, "opening");
  std::unique_ptr<AckLog> log(new AckLog(path, fd));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  const size_t newline = content.rfind('\n');
  const size_t whole = newline == std::string::npos ? 0 : newline + 1;
  if (whole < content.size() && ftruncate(fd, static_cast<off_t>(whole)) != 0) {
    return FileError(errno, path, "cutting off a torn line");
  }
  return log;
}

AckLog::~AckLog() { close(fd_); }

absl::Status AckLog::Append(const Ack& ack) {
  const std::string line = absl::StrCat(ack.id, " ", ack.version, " ", ack.deleted ? "delete" : "put", "\n");
  const ssize_t written = write(fd_, line.data(), line.size());
  if (written < 0) return FileError(errno, path_, "appending");
  if (static_cast<size_t>(written) != line.size()) {
    return absl::ResourceExhaustedError(absl::StrCat(path_, ": appending: only ", written, " of ",
                                                     line.size(), " bytes were written; is the disk full?"));
  }
  return absl::OkStatus();
}

absl::StatusOr<AckLogContent> ReadAckLog(const std::string& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
  AckLogContent log;
  std::vector<absl::string_view> lines = absl::StrSplit(content, '\n');
  log.torn = !lines.back().empty();
  lines.pop_back();  // what follows the last newline
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::optional<Ack> ack = ParseAck(lines[i]);
    if (!ack.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": line ", i + 1, ": ", JsonQuote(lines[i]),
                                                     ", want \"<id> <version> put|delete\""));
    }
    log.acks.push_back(*ack);
  }
  return log;
}

}  // namespace lockstep::examples
