#include "client/examples/cities/files.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

namespace lockstep::examples {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using UniqueFile = std::unique_ptr<std::FILE, CloseFile>;

}  // namespace

absl::Status FileError(int error_number, absl::string_view path, absl::string_view doing) {
  return absl::ErrnoToStatus(error_number, absl::StrCat(path, ": ", doing));
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const UniqueFile file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return FileError(errno, path, "opening");
  std::string content;
  std::array<char, 1 << 16> buffer;
  while (true) {
    const size_t count = std::fread(buffer.data(), 1, buffer.size(), file.get());
    content.append(buffer.data(), count);
    if (count == buffer.size()) continue;
    if (std::ferror(file.get()) != 0) return FileError(errno, path, "reading");
    return content;
  }
}

absl::Status WriteFile(const std::string& path, absl::string_view content) {
  const std::string temporary = path + ".tmp";
  UniqueFile file(std::fopen(temporary.c_str(), "wbe"));
  if (file == nullptr) return FileError(errno, temporary, "creating");
  const bool written = std::fwrite(content.data(), 1, content.size(), file.get()) == content.size();
  const int write_error = errno;
  const bool closed = std::fclose(file.release()) == 0;
  if (!written || !closed) {
    absl::Status status = FileError(written ? errno : write_error, temporary, "writing");
    std::remove(temporary.c_str());
    return status;
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) return FileError(errno, path, "replacing");
  return absl::OkStatus();
}

}  // namespace lockstep::examples
