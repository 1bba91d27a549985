package qupath.ext.instanseg.core

import qupath.lib.scripting.QP

/** The calls of the InstanSeg extension that the script makes; each is written down by its name. */
class InstanSeg {
    final Map<String, Object> asked

    private InstanSeg(Map<String, Object> asked) { this.asked = asked }

    static Builder builder() { return new Builder() }

    /** In the objects that are selected. */
    void detectObjects() {
        def parents = QP.selectedObjects as List
        QP.event('instanseg', [asked: asked, regions: parents*.name])
        QP.addMeasuredCells(parents, asked.measurements ? 'Nucleus: DAB: Mean' : null)
    }

    static class Builder {
        private final Map<String, Object> asked = [:]

        Builder modelPath(String path) { return note('model', new File(path).name) }
        Builder device(String name) { return note('device', name) }
        Builder tileDims(int size) { return note('tileDims', size) }
        Builder interTilePadding(int size) { return note('padding', size) }
        Builder nThreads(int count) { return note('threads', count) }
        Builder makeMeasurements(boolean value) { return note('measurements', value) }
        Builder randomColors(boolean value) { return note('colors', value) }
        InstanSeg build() { return new InstanSeg(asked) }

        private Builder note(String name, Object value) {
            asked[name] = value
            return this
        }
    }
}
