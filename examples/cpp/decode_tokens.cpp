// Prints what a recorded ~/tokens message holds: decode_tokens FILE, with the message's CDR bytes as a bag has them.
// First line: stamp (s and ns), frame, rows, channels. Then per row: 1 or 0 (valid), its channels' sum, the last one.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <vector>

#include "fastcdr/Cdr.h"
#include "sensor_msgs/msg/detail/image__rosidl_typesupport_fastrtps_cpp.hpp"
#include "vit_tokens.hpp"

int main(int argc, char ** argv)
{
  if (argc != 2) {
    std::fprintf(stderr, "usage: decode_tokens FILE\n");
    return 2;
  }
  std::ifstream file(argv[1], std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  try {
    eprosima::fastcdr::FastBuffer buffer(bytes.data(), bytes.size());
    eprosima::fastcdr::Cdr cdr(buffer, eprosima::fastcdr::Cdr::DEFAULT_ENDIAN, eprosima::fastcdr::CdrVersion::XCDRv1);
    cdr.read_encapsulation();
    sensor_msgs::msg::Image message;
    sensor_msgs::msg::typesupport_fastrtps_cpp::cdr_deserialize(cdr, message);
    vit_tokens::Tensor tokens(message);
    std::printf("%d %u %s %zu %zu\n", message.header.stamp.sec, message.header.stamp.nanosec,
      message.header.frame_id.c_str(), tokens.rows(), tokens.width());
    for (size_t t = 0; t < tokens.rows(); ++t) {
      double sum = 0.0;
      for (size_t d = 0; d < tokens.width(); ++d) {
        sum += tokens.at(t, d);
      }
      std::printf("%d %.17g %.17g\n", tokens.is_valid(t), sum, tokens.at(t, tokens.width() - 1));
    }
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
