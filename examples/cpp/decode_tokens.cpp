// Prints what a recorded ~/tokens message holds, as CDR bytes like those of a bag:
//
//   decode_tokens TOKENS
//   decode_tokens TOKENS BASIS KIND:ROWS [KIND:ROWS ...]     of a layout with a basis: the message of ~/basis, and kind
//                                                            and number of rows of each of its groups, as `patch:256`
//
// First line: stamp (s and ns), frame, rows, channels. Then per row: 1 or 0 (valid), its channels' sum, the last one.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "fastcdr/Cdr.h"
#include "sensor_msgs/msg/detail/image__rosidl_typesupport_fastrtps_cpp.hpp"
#include "vit_tokens.hpp"

sensor_msgs::msg::Image read_image(const char * path)
{
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  eprosima::fastcdr::FastBuffer buffer(bytes.data(), bytes.size());
  eprosima::fastcdr::Cdr cdr(buffer, eprosima::fastcdr::Cdr::DEFAULT_ENDIAN, eprosima::fastcdr::CdrVersion::XCDRv1);
  cdr.read_encapsulation();
  sensor_msgs::msg::Image message;
  sensor_msgs::msg::typesupport_fastrtps_cpp::cdr_deserialize(cdr, message);
  return message;
}

vit_tokens::Group group_of(const std::string & text)
{
  const size_t colon = text.find(':');
  if (colon == std::string::npos) {
    throw std::invalid_argument("a group is '" + text + "'; accepted: KIND:ROWS");
  }
  return {std::stoul(text.substr(colon + 1)), text.substr(0, colon) == "patch"};
}

template<typename At>
void print(const sensor_msgs::msg::Image & message, size_t rows, size_t width, At at)
{
  std::printf("%d %u %s %zu %zu\n", message.header.stamp.sec, message.header.stamp.nanosec,
    message.header.frame_id.c_str(), rows, width);
  for (size_t t = 0; t < rows; ++t) {
    double sum = 0.0;
    bool is_valid = false;
    for (size_t d = 0; d < width; ++d) {
      sum += at(t, d);
      is_valid = is_valid || at(t, d) != 0.0f;
    }
    std::printf("%d %.17g %.17g\n", is_valid, sum, at(t, width - 1));
  }
}

int main(int argc, char ** argv)
{
  if (argc != 2 && argc < 4) {
    std::fprintf(stderr, "usage: decode_tokens TOKENS [BASIS KIND:ROWS ...]\n");
    return 2;
  }
  try {
    const sensor_msgs::msg::Image message = read_image(argv[1]);
    if (argc == 2) {
      vit_tokens::Tensor tokens(message);
      print(message, tokens.rows(), tokens.width(), [&](size_t t, size_t d) {return tokens.at(t, d);});
      return 0;
    }
    std::vector<vit_tokens::Group> groups;
    for (int k = 3; k < argc; ++k) {
      groups.push_back(group_of(argv[k]));
    }
    const sensor_msgs::msg::Image basis = read_image(argv[2]);
    const std::vector<float> tokens = vit_tokens::restore(message, basis, groups);
    const size_t width = basis.width;
    print(message, tokens.size() / width, width, [&](size_t t, size_t d) {return tokens[t * width + d];});
  } catch (const std::exception & error) {
    std::fprintf(stderr, "%s: %s\n", argv[1], error.what());
    return 1;
  } catch (...) {
    // Some builds of fastcdr hide what their exceptions derive from.
    std::fprintf(stderr, "%s: not the CDR of a whole sensor_msgs/Image\n", argv[1]);
    return 1;
  }
  return 0;
}
