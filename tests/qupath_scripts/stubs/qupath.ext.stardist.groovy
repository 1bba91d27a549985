package qupath.ext.stardist

import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.scripting.QP
import qupath.opencv.ops.ImageOp

/** The calls of the StarDist extension that the script makes; each is written down by its name. */
class StarDist2D implements AutoCloseable {
    final Map<String, Object> asked
    boolean closed

    private StarDist2D(Map<String, Object> asked) { this.asked = asked }

    static Builder builder(String modelPath) { return new Builder(modelPath) }

    void detectObjects(ImageData imageData, Collection<? extends PathObject> parents) {
        assert !closed
        QP.event('stardist', [asked: asked, regions: parents*.name])
        QP.addMeasuredCells(parents as List, 'DAB: Nucleus: Mean')
    }

    void close() {
        closed = true
        QP.event('stardist closed')
    }

    static class Builder {
        private final Map<String, Object> asked = [:]

        Builder(String modelPath) { asked.model = new File(modelPath).name }

        Builder preprocess(ImageOp... ops) { return note('preprocess', ops*.name) }
        Builder normalizePercentiles(double low, double high) { return note('percentiles', [low, high]) }
        Builder threshold(double value) { return note('threshold', value) }
        Builder pixelSize(double value) { return note('pixelSize', value) }
        Builder cellExpansion(double value) { return note('cellExpansion', value) }
        Builder cellConstrainScale(double value) { return note('cellConstrainScale', value) }
        Builder measureShape() { return note('shape', true) }
        Builder measureIntensity() { return note('intensity', true) }
        Builder includeProbability(boolean value) { return note('probability', value) }
        StarDist2D build() { return new StarDist2D(asked) }

        private Builder note(String name, Object value) {
            asked[name] = value
            return this
        }
    }
}
