/* Operators of an integer graph in C99, without libraries and without floating point: every integer
 * that TensorFlow Lite Micro computes (`export.execute(graph, inputs, "tflm")`).
 *
 * Tensors are int8, [height][width][channels] of one image; real = scale * (code - zero_point).
 */
#ifndef WRPN_KERNELS_H_
#define WRPN_KERNELS_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WRPN_AXES 6

/* Sizes of an operator that moves a window over an image. */
typedef struct {
  int32_t in_height, in_width, in_channels;
  int32_t out_height, out_width, out_channels;
  int32_t height, width; /* of the window */
  int32_t stride_y, stride_x, dilation_y, dilation_x;
  int32_t pad_top, pad_left;
} wrpn_window;

/* Where the elements of a tensor are found, one after the other: the last axis runs fastest. */
typedef struct {
  int32_t sizes[WRPN_AXES], steps[WRPN_AXES], first;
} wrpn_view;

/* A real number mantissa * 2^(shift - 31). */
typedef struct {
  int32_t mantissa, shift;
} wrpn_multiplier;

/* Where output steps become codes. */
typedef struct {
  int32_t zero_point, low; /* low: the smallest code, the zero point behind a ReLU */
} wrpn_output;

/* kernel: [out_channels][height][width][in_channels / groups]. */
void wrpn_conv2d(const wrpn_window *window, int32_t groups, const int8_t *kernel,
                 const int32_t *bias, const wrpn_multiplier *multipliers,
                 int32_t input_zero_point, wrpn_output to, const int8_t *input, int8_t *output);

/* kernel: [height][width][out_channels]. */
void wrpn_depthwise_conv2d(const wrpn_window *window, const int8_t *kernel, const int32_t *bias,
                           const wrpn_multiplier *multipliers, int32_t input_zero_point,
                           wrpn_output to, const int8_t *input, int8_t *output);

/* kernel: [out_channels][height][width][in_channels]; pad_top and pad_left of the window are what
 * is cut off the output. */
void wrpn_transpose_conv2d(const wrpn_window *window, const int8_t *kernel, const int32_t *bias,
                           const wrpn_multiplier *multipliers, int32_t input_zero_point,
                           wrpn_output to, const int8_t *input, int8_t *output);

/* kernel: [outputs][inputs]. */
void wrpn_fully_connected(int32_t rows, int32_t inputs, int32_t outputs, const int8_t *kernel,
                          const int32_t *bias, const wrpn_multiplier *multipliers,
                          int32_t input_zero_point, wrpn_output to, const int8_t *input,
                          int8_t *output);

/* multipliers: of left, right and their sum or difference. */
void wrpn_add(int32_t size, const wrpn_multiplier multipliers[3], int32_t left_zero_point,
              int32_t right_zero_point, wrpn_output to, const int8_t *left, const int8_t *right,
              int8_t *output);

void wrpn_subtract(int32_t size, const wrpn_multiplier multipliers[3], int32_t left_zero_point,
                   int32_t right_zero_point, wrpn_output to, const int8_t *left,
                   const int8_t *right, int8_t *output);

/* view: of `right`, which may be repeated along axes of `left`. */
void wrpn_multiply(const wrpn_view *view, const wrpn_multiplier *multiplier,
                   int32_t left_zero_point, int32_t right_zero_point, wrpn_output to,
                   const int8_t *left, const int8_t *right, int8_t *output);

void wrpn_maximum(int32_t size, const int8_t *left, const int8_t *right, int8_t *output);
void wrpn_minimum(int32_t size, const int8_t *left, const int8_t *right, int8_t *output);

/* table: the output codes of the input codes -128 to 127. */
void wrpn_lookup(int32_t size, const int8_t table[256], const int8_t *input, int8_t *output);

/* Over the last axis, of fewer than 8192 classes; codes that are more than `reach` below the largest
 * of their row have none. */
void wrpn_softmax(int32_t rows, int32_t classes, const wrpn_multiplier *multiplier, int32_t reach,
                  const int8_t *input, int8_t *output);

void wrpn_max_pool(const wrpn_window *window, const int8_t *input, int8_t *output);
void wrpn_average_pool(const wrpn_window *window, const int8_t *input, int8_t *output);

/* Copies rows of `inner` codes into rows of `stride` codes: one input of a concatenation. */
void wrpn_concatenate(int32_t outer, int32_t inner, int32_t stride, const int8_t *input,
                      int8_t *output);

/* Pads with a code; pad_top and pad_left of the window, the rest by its sizes. */
void wrpn_pad(const wrpn_window *window, int32_t value, const int8_t *input, int8_t *output);

/* Copies codes of the view in order: slices, transposed axes, blocks, repeated pixels. */
void wrpn_move(const wrpn_view *view, const int8_t *input, int8_t *output);

/* height and width of the window: by what the image grows. */
void wrpn_resize_bilinear(const wrpn_window *window, const int8_t *input, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
