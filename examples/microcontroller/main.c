/* A network in plain C on the machine you sit at, before it goes onto a microcontroller.
 *
 *   python -m export.c --model-graph=model.npz --output=firmware
 *   gcc -std=c99 -O2 -Wall -Ifirmware -o classify examples/microcontroller/main.c \
 *       firmware/network.c firmware/wrpn_kernels.c
 *   ./classify < image.raw
 *
 * image.raw: the pixels, one byte for each channel, row by row. Prints the class and its score.
 * On a microcontroller there is no file: put the pixels where getchar() is. A network with several
 * inputs or outputs, which network.h lists, needs an array for each in inputs[] and outputs[].
 */
#include <stdio.h>
#include <stdlib.h>

#include "network.h"

#define TENSORS (sizeof network_tensors / sizeof network_tensors[0])

int main(void) {
  /* The inputs come first; what the last operator writes is the output. */
  const network_tensor *input = &network_tensors[0], *output = &network_tensors[TENSORS - 1];
  int8_t *codes = malloc((size_t)input->size), *scores = malloc((size_t)output->size);
  if (!codes || !scores) return 1;
  for (int32_t i = 0; i < input->size; i++) {
    int pixel = getchar();
    if (pixel == EOF) {
      fprintf(stderr, "the image ends after %ld of %ld bytes\n", (long)i, (long)input->size);
      return 1;
    }
    codes[i] = (int8_t)(pixel - 128); /* a pixel p is the code p - 128 */
  }
  const int8_t *inputs[] = {codes};
  int8_t *outputs[] = {scores};
  network_run(inputs, outputs, 0);
  int32_t best = 0;
  for (int32_t c = 1; c < output->size; c++) {
    if (scores[c] > scores[best]) best = c;
  }
  printf("class %ld, score %g\n", (long)best,
         output->scale * (scores[best] - output->zero_point));
  free(codes);
  free(scores);
  return 0;
}
