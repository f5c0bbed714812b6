import com.amazonaws.kinesisvideo.parser.ebml.EBMLTypeInfo;
import com.amazonaws.kinesisvideo.parser.ebml.InputStreamParserByteSource;
import com.amazonaws.kinesisvideo.parser.ebml.MkvTypeInfos;
import com.amazonaws.kinesisvideo.parser.mkv.Frame;
import com.amazonaws.kinesisvideo.parser.mkv.MkvDataElement;
import com.amazonaws.kinesisvideo.parser.mkv.MkvElementVisitor;
import com.amazonaws.kinesisvideo.parser.mkv.MkvEndMasterElement;
import com.amazonaws.kinesisvideo.parser.mkv.MkvStartMasterElement;
import com.amazonaws.kinesisvideo.parser.mkv.StreamingMkvReader;
import com.amazonaws.kinesisvideo.parser.utilities.FragmentMetadataVisitor;
import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.Set;

/**
 * Amazon's parser of Kinesis Video Streams reads the bodies of PutMedia requests: structure, tracks, clusters, frames.
 *
 * <p>Arguments: files. Prints "BROKEN rule: example" and "NOTE name: value" lines; exit 1 where a rule is broken.
 */
public final class KinesisJudge extends MkvElementVisitor {
    private final Set<String> broken = new LinkedHashSet<>();
    private int clusters;
    private int frames;
    private int tracks;
    private boolean clusterBegins;
    private BigInteger timecode;

    public static void main(String[] files) throws IOException {
        boolean holds = files.length > 0;
        for (String name : files) {
            KinesisJudge judge = new KinesisJudge();
            judge.read(Path.of(name));
            for (String line : judge.broken) {
                System.out.println("BROKEN " + line);
            }
            System.out.printf("NOTE %s: %d tracks, %d clusters, %d frames%n",
                    Path.of(name).getFileName(), judge.tracks, judge.clusters, judge.frames);
            holds &= judge.broken.isEmpty();
        }
        System.exit(holds ? 0 : 1);
    }

    private void read(Path file) throws IOException {
        visit(file, this);
        visit(file, FragmentMetadataVisitor.create());
        if (clusters == 0 || frames == 0) {
            broken.add("a body has clusters and frames: " + clusters + " " + frames);
        }
    }

    private void visit(Path file, MkvElementVisitor visitor) throws IOException {
        try (InputStream input = new BufferedInputStream(Files.newInputStream(file))) {
            StreamingMkvReader reader = StreamingMkvReader.createDefault(new InputStreamParserByteSource(input));
            reader.apply(visitor);
            if (reader.mightHaveNext()) {
                broken.add("the parser reads the whole body: it stopped early");
            }
        } catch (Exception error) {
            broken.add("the parser reads the body: " + error);
        }
    }

    @Override
    public void visit(MkvStartMasterElement element) {
        EBMLTypeInfo type = element.getElementMetaData().getTypeInfo();
        if (type.equals(MkvTypeInfos.CLUSTER)) {
            clusters++;
            clusterBegins = true;
        } else if (type.equals(MkvTypeInfos.TRACKENTRY)) {
            tracks++;
        }
    }

    @Override
    public void visit(MkvEndMasterElement element) {
        // Nothing is counted at an end.
    }

    @Override
    public void visit(MkvDataElement element) {
        EBMLTypeInfo type = element.getElementMetaData().getTypeInfo();
        if (type.equals(MkvTypeInfos.TIMECODE)) {
            BigInteger value = (BigInteger) element.getValueCopy().getVal();
            if (timecode != null && value.compareTo(timecode) <= 0) {
                broken.add("times of clusters go forward: " + value + " after " + timecode);
            }
            timecode = value;
        } else if (type.equals(MkvTypeInfos.SIMPLEBLOCK)) {
            frame((Frame) element.getValueCopy().getVal());
        } else if (type.equals(MkvTypeInfos.BLOCK)) {
            broken.add("frames are SimpleBlocks: a Block in cluster " + clusters);
        }
    }

    private void frame(Frame frame) {
        frames++;
        if (timecode == null) {
            broken.add("a cluster's time comes before its frames: cluster " + clusters);
        }
        if (clusterBegins && !frame.isKeyFrame()) {
            broken.add("a cluster begins with a key frame: cluster " + clusters + ", track " + frame.getTrackNumber());
        }
        clusterBegins = false;
        if (frame.getTimeCode() < 0) {
            broken.add("times of frames are not before their cluster's: " + frame.getTimeCode());
        }
        if (frame.getLacing() != Frame.Lacing.NO) {
            broken.add("frames have no lacing: cluster " + clusters);
        }
        if (!frame.getFrameData().hasRemaining()) {
            broken.add("frames are not empty: cluster " + clusters);
        }
    }
}
